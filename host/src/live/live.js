// Draws a pool as it is now, and its last minutes. Reports come as events, or are asked for; docs/observe.md has their keys.

// What the lanes show, and what the curves show at the least and at the most, in milliseconds.
const WINDOW = 30_000, MINUTE = 60_000, MINUTES = 300_000;
// Bars that are drawn at the most, and lanes.
const BARS = 3000, ROWS = 1000;
// How often a host is asked that does not send by itself, and after how long one that says nothing is no longer shown.
const PERIOD = 2000, LOST = 60_000;

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");
// Every process that was heard of, by the token that it calls itself.
const hosts = new Map();

// A key in the address would be copied with it.
const address = new URL(location.href), key = address.searchParams.get("code");
if (key !== null) {
  address.searchParams.delete("code");
  history.replaceState(null, "", address);
}

const header = element(main, "header");
element(header, "h1", "flexwasm");
const state = element(header, "span", "connecting …", { id: "state", role: "status" });
const charts = element(main, "div", undefined, { id: "charts" });
element(main, "h2", "Slots, the last 30 seconds");
const lanesText = element(main, "p", "", { class: "quiet" });
const svg = shape(main, "svg", { tabindex: 0, role: "application",
  "aria-label": "Slots: a lane for each, a bar for each request. Arrow keys go from request to request." });
let bars = [];
const mark = choosing(svg, receiptLine(main), () => bars, bar => bar.key);
element(main, "h2", "Functions");
const functions = element(element(main, "table"), "tbody", undefined, { id: "functions" });
element(main, "h2", "Last swaps and failures");
const news = element(main, "ul", undefined, { id: "news" });

// Notes what a host has reported. Its times are moved onto this page's clock by the quickest report so far.
function take(report) {
  const now = performance.now();
  let host = hosts.get(report.host);
  if (!host) {
    // A stream comes from one host, and ends with it.
    if (data.feed === "events") hosts.clear();
    hosts.set(report.host, host = { offset: Infinity, ended: [], seconds: [], left: [] });
  } else if (report.left > 0) {
    host.left.push([now, report.left]);
  }
  host.offset = Math.min(host.offset, now - report.atMs);
  host.heard = now;
  host.next = report.next;
  const ended = report.ended.map(([slot, name, generation, instance, sent, start, end, outcome]) =>
    ({ slot, name, generation, instance, sent, start, end, outcome }));
  host.ended = host.ended.concat(ended).slice(-BARS);
  Object.assign(host, { at: report.atMs, running: report.running, parked: report.parked, waiting: report.waiting });
  host.slots = report.slots.map(([slot, phase, name, generation, instance, since]) =>
    ({ slot, phase, name, generation, instance, since: since ?? report.atMs }));
  if (report.about) {
    Object.assign(host, { about: report.about, functions: report.functions, news: report.news });
    host.seconds = host.seconds.concat(report.seconds).filter(second => second.atMs > report.atMs - MINUTES);
    slow();
  }
  later();
}

function known() {
  const now = performance.now();
  for (const [token, host] of hosts) if (now - host.heard > LOST) hosts.delete(token);
  return [...hosts.values()].filter(host => host.about);
}

const sum = (list, of) => list.reduce((all, one) => all + (of(one) ?? 0), 0);
const size = bytes => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
const time = ms => ms >= 1000 ? seconds(ms) : ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(2)} ms`;
const plain = number => number >= 100 || Number.isInteger(number) ? number.toFixed(0) : number.toFixed(1);

// The last minutes of all hosts together: numbers are added up, times are those of the slowest.
function rows(all) {
  const found = new Map();
  for (const host of all) {
    // Two rows of one host that fall into the same second would count twice.
    const own = new Map(host.seconds.map(second => [Math.round((second.atMs + host.offset) / 1000), second]));
    for (const [at, second] of own) {
      const row = found.get(at) ?? { at: at * 1000, ended: {} };
      found.set(at, row);
      for (const name of ["running", "waiting", "memory", "resident", "cpu"]) row[name] = (row[name] ?? 0) + (second[name] ?? 0);
      for (const [word, number] of Object.entries(second.ended)) row.ended[word] = (row.ended[word] ?? 0) + number;
      for (const name of ["queueMs", "instantiateMs", "guestMs"]) {
        if (second[name]) row[name] = second[name].map((value, place) => Math.max(value, row[name]?.[place] ?? 0));
      }
    }
  }
  return [...found.values()].sort((a, b) => a.at - b.at);
}

// One chart: `lines` are [class, name, value of a row]; a value that is missing breaks its line.
function chart(title, rows, lines, say, most = 0) {
  const figure = element(charts, "figure"), caption = element(figure, "figcaption");
  element(caption, "b", `${title} `);
  const values = lines.map(([, , of]) => rows.map(of));
  const top = Math.max(most, ...values.flat().filter(Number.isFinite)) || 1;
  const now = performance.now(), length = Math.min(Math.max(now - (rows[0]?.at ?? now), MINUTE), MINUTES);
  const x = at => 400 * (1 - (now - at) / length), y = value => 96 - 90 * value / top;
  const picture = shape(figure, "svg", { viewBox: "0 0 400 100", role: "img", "aria-label": title });
  shape(picture, "path", { class: "grid", d: "M0 96H400" });
  shape(picture, "path", { class: "grid", d: "M0 6H400" });
  shape(picture, "text", { x: 2, y: 17 }, say(top));
  shape(picture, "text", { x: 2, y: 92 }, length >= 2 * MINUTE ? `${(length / MINUTE).toFixed(0)} min ago` : `${(length / 1000).toFixed(0)} s ago`);
  lines.forEach(([name, text], index) => {
    const last = values[index].at(-1);
    const entry = element(caption, "span");
    shape(shape(entry, "svg", { viewBox: "0 0 26 8" }), "path", { class: `line ${name}`, d: "M0 4h26" });
    entry.append(Number.isFinite(last) ? `${text} ${say(last)}` : text);
    let part = [], drawn = "";
    const end = () => { drawn += path(part.length === 1 ? [part[0], part[0]] : part); part = []; };
    rows.forEach((row, place) => {
      const value = values[index][place];
      if (Number.isFinite(value)) part.push([Math.max(x(row.at), 0), y(value)]); else if (part.length) end();
    });
    if (part.length) end();
    if (drawn) shape(picture, "path", { class: `line ${name}`, d: drawn, "stroke-linecap": "round" });
  });
}

// What changes once in a second.
function slow() {
  const all = known(), last = rows(all), slots = sum(all, host => host.about.slots);
  charts.replaceChildren();
  chart("In flight", last, [["blue", "running", row => row.running], ["amber", "waiting", row => row.waiting],
    ["red", "slots", () => slots]], plain, slots);
  const rate = word => row => row.ended[word] ?? 0;
  chart("Answers per second", last, [["blue", "answered", rate("answered")], ["amber", "refused", rate("refused")],
    ["red", "failed", row => rate("failed")(row) + rate("deadline")(row)], ["grey", "client gone", rate("gone")]], plain);
  for (const [place, title] of [[0, "Half take no longer than"], [1, "99 of 100 take no longer than"]]) {
    chart(title, last, [["amber", "queue", row => row.queueMs?.[place]], ["green", "instantiate", row => row.instantiateMs?.[place]],
      ["blue", "guest", row => row.guestMs?.[place]]], time);
  }
  const total = sum(all, host => host.about.totalMemory);
  chart("Memory", last, [["green", "guests", row => row.memory], ["red", "limits.totalMemory", () => total],
    ["blue", "process", row => row.resident]], size);
  chart("Processors in use", last, [["blue", "process", row => row.cpu], ["red", "there are", () => sum(all, host => host.about.processors)]], plain);

  functions.replaceChildren();
  const head = element(functions, "tr");
  for (const name of ["Function", "Methods", "URL", "Generation", "Digest", ""]) element(head, "th", name);
  for (const { name, methods, url } of data.functions) {
    const row = element(functions, "tr"), of = all.map(host => host.functions.find(one => one.name === name) ?? {});
    const each = member => [...new Set(of.map(one => one[member]).filter(value => value !== null && value !== undefined))].join(", ");
    element(row, "td", name);
    element(row, "td", methods ?? "");
    const cell = element(row, "td");
    if (url) element(cell, "a", url, { href: url });
    element(row, "td", each("generation"));
    element(row, "td", each("digest"));
    element(row, "td", each("problem"), { class: "failures" });
  }
  const items = all.flatMap(host => host.news.map(item => ({ ...item, host, time: host.about.startedMs + item.atMs })));
  items.sort((a, b) => b.time - a.time);
  news.replaceChildren();
  for (const { time, kind, function: name, text, host } of items.slice(0, 40)) {
    const item = element(news, "li"), on = all.length > 1 ? ` on ${host.about.machine}` : "";
    element(item, "span", `${new Date(time).toLocaleTimeString()}${on} · `, { class: "quiet" });
    element(item, "b", `${name}: ${kind} `, ["swapped", "rolled-back"].includes(kind) ? {} : { class: "bad" });
    item.append(text);
  }
  if (items.length === 0) element(news, "li", "none", { class: "quiet" });
}

// The lanes of a host. A slot that was used while this page was open keeps its lane.
function lanesOf(host, from, now) {
  const at = ms => ms + host.offset, { machine, process } = host.about;
  const [lanes, seen] = [new Map(), host.seen ??= new Set()];
  const lane = slot => {
    if (!lanes.has(slot)) lanes.set(slot, { machine, process, slot, bars: [] });
    return lanes.get(slot);
  };
  const add = (slot, bar) => {
    seen.add(slot);
    lane(slot).bars.push({ ...bar, wait: Math.max(bar.wait, from), start: Math.max(bar.start, from) });
  };
  const told = ({ slot, name, generation, instance }) =>
    `${name} · slot ${slot} of ${host.about.slots} · instance #${instance}, generation ${generation} · ${machine}, process ${process}`;
  for (const bar of host.ended) {
    if (at(bar.end) < from) continue;
    const words = () => `${told(bar)} · ${bar.outcome} · waited ${time(bar.start - bar.sent)}, took ${time(bar.end - bar.start)}`;
    add(bar.slot, { wait: at(bar.sent), start: at(bar.start), end: at(bar.end), instance: bar.instance,
      kind: bar.outcome === "answered" ? "" : "bad", key: `${host.next.split("-")[0]} ${bar.instance} ${bar.start}`, tell: words });
  }
  for (const slot of host.slots) {
    const words = () => `${told(slot)} · ${slot.phase} for ${time(Math.max(host.at - slot.since, 0))}`;
    const start = Math.min(at(slot.since), now);
    add(slot.slot, { wait: start, start, end: now, instance: slot.instance, kind: slot.phase === "parked" ? "parked" : "",
      key: `${host.next.split("-")[0]} ${slot.instance} ${slot.since}`, tell: words });
  }
  for (const slot of seen) lane(slot);
  return [...lanes.values()];
}

// The numbers and the lanes.
function quick() {
  const all = known();
  if (all.length === 0) return;
  const now = performance.now(), from = now - WINDOW;
  for (const host of all) host.left = host.left.filter(([at]) => at > from);
  const slots = sum(all, host => host.about.slots), left = sum(all.flatMap(host => host.left), ([, number]) => number);
  const where = all.length === 1 ? `${all[0].about.machine}, process ${all[0].about.process}` : count(all.length, "process");
  state.textContent = `${all[0].about.version} · ${where} · ${sum(all, host => host.running)} of ${count(slots, "slot")} running, ` +
    `${sum(all, host => host.parked)} parked, ${sum(all, host => host.waiting)} waiting`;
  const lanes = all.flatMap(host => lanesOf(host, from, now));
  lanesText.textContent = [
    lanes.length === 0 ? "No slot has been used yet." : "Dashed: an instance that is parked. Red: a request that failed while it was answered.",
    lanes.length > ROWS ? `${ROWS} of ${lanes.length} lanes are drawn.` : "",
    left > 0 ? `${left} requests came too fast to be drawn.` : "",
  ].join(" ");
  const places = layOut(lanes.sort((a, b) => a.slot - b.slot).slice(0, ROWS), 24);
  const x = at => LEFT + (WIDTH - LEFT - RIGHT) * (at - from) / WINDOW;
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${places.bottom + 4}`);
  const name = at => at === 0 ? "now" : `${at / 1000} s`;
  times(svg, at => x(at + now), -WINDOW, 0, { name, top: 18, bottom: places.bottom, below: 14 });
  bars = drawLanes(svg, places, x);
  mark();
}

// Draws soon, and leaves the browser most of the time for other things.
let drawing = false, pause = 100;
function later() {
  if (drawing) return;
  drawing = true;
  setTimeout(() => {
    drawing = false;
    const begun = performance.now();
    quick();
    pause = Math.max(100, 4 * (performance.now() - begun));
    // What runs grows although nothing is reported.
    if (!document.hidden && known().some(host => host.running + host.parked > 0 || host.ended.length > 0)) later();
  }, pause);
}

function lost() {
  state.textContent = "not connected: is the host running?";
  state.className = "lost";
}

// What was seen of whichever host answers.
function url() {
  const asked = new URL(address);
  const since = [...hosts.values()].map(host => host.next).join("_");
  asked.searchParams.set("since", since);
  return asked;
}

let source, asking;
function listen() {
  source = new EventSource(url());
  source.onmessage = event => { state.className = ""; take(JSON.parse(event.data)); };
  // The next one goes on where this one was.
  source.onerror = () => { source.close(); lost(); asking = setTimeout(listen, 1000); };
}

async function ask() {
  try {
    const headers = { accept: "application/json", ...key === null ? {} : { "x-functions-key": key } };
    const answer = await fetch(url(), { headers, cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status);
    state.className = "";
    take(await answer.json());
  } catch {
    lost();
  }
  if (!document.hidden) asking = setTimeout(ask, PERIOD);
}

// Nobody looks at a page that is hidden.
function show() {
  clearTimeout(asking);
  source?.close();
  if (!document.hidden) data.feed === "events" ? listen() : ask();
}

document.addEventListener("visibilitychange", show);
show();
