// Draws a burst: one lane for each slot, one bar for each request, and above them how many were in flight.
"use strict";

const WIDTH = 1200, LEFT = 150, RIGHT = 12, CURVE = 120, GAP = 28, HEAD = 18;
// The lanes share about a screen. Beyond some hundred they become thin, and the page longer.
const LANES = 900, THINNEST = 1.5, THICKEST = 18;

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");

function element(parent, name, text) {
  const made = parent.appendChild(document.createElement(name));
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(parent, name, attributes, text) {
  const made = parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Neighbours differ in hue and in lightness, which every eye can tell apart; black text is readable on all of them.
function colour(instance) {
  return `hsl(${(instance * 137.508) % 360} 65% ${[58, 70, 82][instance % 3]}%)`;
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}

// Lanes in the order of machine, process and slot.
function lanes(ran) {
  const found = new Map();
  for (const request of ran) {
    const { machine, process, slot } = request.receipt;
    const key = JSON.stringify([machine, process, slot]);
    if (!found.has(key)) found.set(key, { machine, process, slot, requests: [] });
    found.get(key).requests.push(request);
  }
  const order = (a, b) => a < b ? -1 : a > b ? 1 : 0;
  return [...found.values()].sort((a, b) => order(a.machine, b.machine) || a.process - b.process || a.slot - b.slot);
}

// Points at which a count of spans changes, as [time, count].
function steps(spans) {
  const changes = spans.flatMap(([start, end]) => [[start, 1], [end, -1]]);
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let count = 0;
  return changes.map(([at, change]) => [at, count += change]);
}

// A round distance that divides `length` into at most `most` parts.
function distance(length, most) {
  const power = 10 ** Math.floor(Math.log10(length / most));
  return [1, 2, 5, 10].map(factor => factor * power).find(step => length / step <= most);
}

function facts() {
  const { facts, totalSeconds, serialSeconds, verdict } = data;
  const count = (number, one) => `${number} ${one}${number === 1 ? "" : one.endsWith("s") ? "es" : "s"}`;
  element(main, "h1", data.url);
  element(main, "p", verdict).id = "verdict";
  element(main, "p", [
    count(facts.requests, "request"), count(facts.instances, "instance"), `${facts.slots} of ${count(facts.capacity, "slot")}`,
    count(facts.threads, "thread"), count(facts.processes, "process"), count(facts.machines, "machine"),
    `${totalSeconds.toFixed(2)} s in all, ${serialSeconds.toFixed(0)} s one after the other`,
  ].join(" · ")).id = "facts";
  const reasons = new Map();
  for (const { error } of data.requests) if (error) reasons.set(error, (reasons.get(error) ?? 0) + 1);
  for (const [reason, times] of reasons) element(main, "p", `${times} failed: ${reason}`).className = "failures";
}

function curve(svg, x, ran) {
  const most = Math.max(data.facts.capacity, data.requests.length, 1);
  const y = count => CURVE - (CURVE - 12) * count / most;
  const path = points => "M" + points.map(([at, count]) => `${x(at).toFixed(1)} ${y(count).toFixed(1)}`).reduce(
    (line, point, index) => index === 0 ? point : `${line}H${point.split(" ")[0]}V${point.split(" ")[1]}`, "");
  const from = points => [[0, 0], ...points];
  shape(svg, "path", { class: "flight", d: path(from(steps(data.requests.map(r => [r.sentMs, r.answeredMs])))) });
  shape(svg, "path", { class: "running", d: path(from(steps(ran.map(r => [r.startMs, r.endMs])))) });
  shape(svg, "path", { class: "pool", d: `M${LEFT} ${y(data.facts.capacity)}H${WIDTH - RIGHT}` });
  const legend = [["running", "running"], ["flight", "sent, not answered"], ["pool", `slots: ${data.facts.capacity}`]];
  legend.forEach(([name, text], row) => {
    shape(svg, "path", { class: name, d: `M4 ${22 + row * 18}h22` });
    shape(svg, "text", { x: 32, y: 26 + row * 18 }, text);
  });
  shape(svg, "text", { x: 4, y: 90 }, `at most ${data.facts.peak} at once`);
}

function receipt(request) {
  const { machine, process, slot, pool, instance, served, generation, threads } = request.receipt;
  return `request ${request.number} · instance #${instance}, its request ${served}, generation ${generation} · slot ${slot} of ${pool}` +
    ` · ${machine}, process ${process}, threads ${[...new Set(threads)].join(" and ")}` +
    ` · sent ${seconds(request.sentMs)}, began ${seconds(request.startMs)}, ended ${seconds(request.endMs)}, answered ${seconds(request.answeredMs)}`;
}

function draw() {
  const ran = data.requests.filter(request => request.receipt);
  const rows = lanes(ran);
  const end = Math.max(data.totalSeconds * 1000, 1);
  const x = ms => LEFT + (WIDTH - LEFT - RIGHT) * ms / end;
  const thick = Math.min(THICKEST, Math.max(THINNEST, LANES / Math.max(rows.length, 1)));

  // Where each lane lies: a group has a line of its own above it.
  let y = CURVE + GAP;
  const groups = [];
  for (const [index, lane] of rows.entries()) {
    const before = rows[index - 1];
    if (!before || before.machine !== lane.machine || before.process !== lane.process) {
      groups.push({ lane, y: y + HEAD - 5 });
      y += HEAD;
    }
    lane.y = y;
    y += thick;
  }
  const svg = shape(main, "svg", { viewBox: `0 0 ${WIDTH} ${y + 4}`, tabindex: 0, role: "application",
    "aria-label": "Timeline: a lane for each slot, a bar for each request. Arrow keys go from request to request." });
  const step = distance(end, 10);
  for (let at = 0; at <= end; at += step) {
    shape(svg, "path", { class: "grid", d: `M${x(at)} 8V${y}` });
    shape(svg, "text", { x: x(at) + 3, y: CURVE + 14 }, `${Number((at / 1000).toPrecision(6))} s`);
  }
  curve(svg, x, ran);
  for (const { lane, y } of groups) shape(svg, "text", { x: 4, y }, `${lane.machine}, process ${lane.process}`);

  const bars = [];
  for (const lane of rows) {
    const group = shape(svg, "g", { class: "lane" });
    if (thick >= 10) shape(group, "text", { x: LEFT - 6, y: lane.y + thick - 4, "text-anchor": "end" }, `slot ${lane.slot}`);
    for (const request of lane.requests) {
      // A wait may lie beside an earlier request of the slot, so it is thin and at the lane's foot.
      shape(group, "rect", { class: "wait", x: x(request.sentMs), y: lane.y + thick * .72,
        width: Math.max(x(request.startMs) - x(request.sentMs), 0), height: thick * .22 });
    }
    for (const request of lane.requests) {
      const left = x(request.startMs), width = Math.max(x(request.endMs) - left, .8);
      const bar = shape(group, "rect", { class: "bar", x: left, y: lane.y, width, height: thick * .92,
        fill: colour(request.receipt.instance) });
      shape(bar, "title", {}, receipt(request));
      bars.push({ bar, request });
      if (thick >= 12 && width >= 40) shape(group, "text", { class: "label", x: left + 4, y: lane.y + thick - 5 }, `#${request.receipt.instance}`);
    }
  }

  const told = element(main, "p", "Point at a bar, tap it, or use the arrow keys: it shows the request's receipt.");
  told.id = "receipt";
  told.setAttribute("aria-live", "polite");
  let chosen;
  const choose = index => {
    if (chosen !== undefined) bars[chosen].bar.classList.remove("chosen");
    chosen = index;
    bars[chosen].bar.classList.add("chosen");
    told.textContent = receipt(bars[chosen].request);
  };
  const places = new Map(bars.map(({ bar }, index) => [bar, index]));
  for (const event of ["pointerover", "click"]) {
    svg.addEventListener(event, ({ target }) => { if (places.has(target)) choose(places.get(target)); });
  }
  svg.addEventListener("keydown", event => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by || bars.length === 0) return;
    event.preventDefault();
    choose(chosen === undefined ? 0 : Math.min(Math.max(chosen + by, 0), bars.length - 1));
  });
}

facts();
draw();
