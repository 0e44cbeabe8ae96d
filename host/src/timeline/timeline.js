// Draws requests that are over: one lane for each slot, one bar for each request, and above them how many were in flight.

const CURVE = 120, GAP = 28;

const data = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");

function facts() {
  const { facts, totalSeconds, serialSeconds, verdict } = data;
  element(main, "h1", data.url ?? "Requests of a log");
  // The signs that it begins with in a terminal are not in every font.
  element(main, "p", verdict.replace(/^\S+ RESULT: /, ""), { id: "verdict", class: data.passed === false ? "failures" : "" });
  element(main, "p", [
    count(facts.requests, "request"), count(facts.instances, "instance"), `${facts.slots} of ${count(facts.capacity, "slot")}`,
    ...facts.threads ? [count(facts.threads, "thread")] : [], count(facts.processes, "process"), count(facts.machines, "machine"),
    `${totalSeconds.toFixed(2)} s in all, ${serialSeconds.toFixed(0)} s one after the other`,
  ].join(" · "), { id: "facts" });
  const reasons = new Map();
  for (const { error } of data.requests) if (error) reasons.set(error, (reasons.get(error) ?? 0) + 1);
  for (const [reason, times] of reasons) element(main, "p", `${times} failed: ${reason}`, { class: "failures" });
}

function curve(svg, x, ran) {
  const flight = steps(data.requests.map(request => [request.sentMs, request.answeredMs]));
  const most = Math.max(data.facts.capacity, ...flight.map(([, count]) => count), 1);
  const y = count => CURVE - (CURVE - 12) * count / most;
  const stairs = points => path([[0, 0], ...points].map(([at, count]) => [x(at), y(count)]), true);
  shape(svg, "path", { class: "line grey", d: stairs(flight) });
  shape(svg, "path", { class: "line blue", d: stairs(steps(ran.map(request => [request.startMs, request.endMs]))) });
  shape(svg, "path", { class: "line red", d: `M${LEFT} ${y(data.facts.capacity)}H${WIDTH - RIGHT}` });
  const legend = [["blue", "running"], ["grey", "sent, not answered"], ["red", `slots: ${data.facts.capacity}`]];
  legend.forEach(([name, text], row) => {
    shape(svg, "path", { class: `line ${name}`, d: `M4 ${22 + row * 18}h22` });
    shape(svg, "text", { x: 32, y: 26 + row * 18 }, text);
  });
  shape(svg, "text", { x: 4, y: 90 }, `at most ${data.facts.peak} at once`);
}

function receipt(request) {
  const { machine, process, slot, pool, instance, served, generation, threads } = request.receipt;
  const where = threads ? `, threads ${[...new Set(threads)].join(" and ")}` : "";
  return `request ${request.number} · instance #${instance}, its request ${served}, generation ${generation} · slot ${slot} of ${pool}` +
    ` · ${machine}, process ${process}${where}` +
    ` · sent ${seconds(request.sentMs)}, began ${seconds(request.startMs)}, ended ${seconds(request.endMs)}, answered ${seconds(request.answeredMs)}`;
}

function lanes(ran) {
  const found = new Map();
  for (const request of ran) {
    const { machine, process, slot, instance } = request.receipt;
    const key = JSON.stringify([machine, process, slot]);
    if (!found.has(key)) found.set(key, { machine, process, slot, bars: [] });
    found.get(key).bars.push({ wait: request.sentMs, start: request.startMs, end: request.endMs, instance,
      kind: request.error ? "bad" : "", number: request.number, tell: () => receipt(request) });
  }
  return [...found.values()];
}

function draw() {
  const ran = data.requests.filter(request => request.receipt);
  const end = Math.max(data.totalSeconds * 1000, 1);
  const x = ms => LEFT + (WIDTH - LEFT - RIGHT) * ms / end;
  const places = layOut(lanes(ran), CURVE + GAP);
  const svg = shape(main, "svg", { viewBox: `0 0 ${WIDTH} ${places.bottom + 4}`, tabindex: 0, role: "application",
    "aria-label": "Timeline: a lane for each slot, a bar for each request. Arrow keys go from request to request." });
  const name = at => `${Number((at / 1000).toPrecision(6))} s`;
  times(svg, x, 0, end, { name, top: 8, bottom: places.bottom, below: CURVE + 14 });
  curve(svg, x, ran);
  const bars = drawLanes(svg, places, x);
  for (const { bar, node } of bars) shape(node, "title", {}, bar.tell());
  choosing(svg, receiptLine(main), () => bars, bar => bar.number);
}

facts();
draw();
