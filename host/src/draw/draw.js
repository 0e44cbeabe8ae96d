// What all pages share: elements, axes, curves, and lanes with bars.

const WIDTH = 1200, LEFT = 150, RIGHT = 12, HEAD = 18;
// The lanes share about a screen. Beyond some hundred they become thin, and the page longer.
const LANES = 900, THINNEST = 1.5, THICKEST = 18;
// Names of lanes stand so far apart, at the least.
const LINE = 12;

function element(parent, name, text, attributes = {}) {
  const made = parent.appendChild(document.createElement(name));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
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
  return `hsl(${((instance * 137.508) % 360).toFixed(1)} 65% ${[58, 70, 82][instance % 3]}%)`;
}

function seconds(ms) {
  return `${(ms / 1000).toFixed(2)} s`;
}

function count(number, one) {
  return `${number} ${one}${number === 1 ? "" : one.endsWith("s") ? "es" : "s"}`;
}

// A round distance that divides `length` into at most `most` parts.
function distance(length, most) {
  const power = 10 ** Math.floor(Math.log10(length / most));
  return [1, 2, 5, 10].map(factor => factor * power).find(step => length / step <= most);
}

// Points at which a count of spans changes, as [time, count].
function steps(spans) {
  const changes = spans.flatMap(([start, end]) => [[start, 1], [end, -1]]);
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let count = 0;
  return changes.map(([at, change]) => [at, count += change]);
}

// A line through points; `stairs` goes on as it was until the next one.
function path(points, stairs) {
  return points.map(([x, y], index) => {
    const [left, top] = [x.toFixed(1), y.toFixed(1)];
    return index === 0 ? `M${left} ${top}` : stairs ? `H${left}V${top}` : `L${left} ${top}`;
  }).join("");
}

// Lines at round times between `from` and `to`, with their names below `top`. No name is cut off at the right.
function times(svg, x, from, to, { name, top, bottom, below }) {
  const step = distance(to - from, 10);
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    const last = x(at) > WIDTH - RIGHT - 40;
    shape(svg, "path", { class: "grid", d: `M${x(at)} ${top}V${bottom}` });
    shape(svg, "text", { x: x(at) + (last ? -3 : 3), y: below, "text-anchor": last ? "end" : "start" }, name(at));
  }
}

// Where lanes lie from `top` on: a machine's process has a line of its own above its lanes. Lanes are {machine, process, slot, bars}.
function layOut(lanes, top) {
  const order = (a, b) => a < b ? -1 : a > b ? 1 : 0;
  lanes.sort((a, b) => order(a.machine, b.machine) || a.process - b.process || a.slot - b.slot);
  const thick = Math.min(THICKEST, Math.max(THINNEST, LANES / Math.max(lanes.length, 1)));
  const named = thick >= LINE ? 1 : distance(Math.max(lanes.length, 1), Math.max(lanes.length, 1) * thick / LINE);
  const groups = [];
  let y = top, before;
  for (const lane of lanes) {
    if (!before || before.machine !== lane.machine || before.process !== lane.process) {
      groups.push({ text: `${lane.machine}, process ${lane.process}`, y: y + HEAD - 5 });
      y += HEAD;
    }
    lane.y = y;
    lane.isNamed = lane.slot % named === 0;
    y += thick;
    before = lane;
  }
  return { lanes, groups, thick, bottom: y };
}

// Draws what `layOut` made. A bar is {start, end, wait, instance, kind, tell}: it waited from `wait` on, and `tell` puts it into words.
// Returns the bars with their nodes, in their order.
function drawLanes(svg, { lanes, groups, thick }, x) {
  for (const { text, y } of groups) shape(svg, "text", { x: 4, y }, text);
  const bars = [];
  for (const lane of lanes) {
    const group = shape(svg, "g", { class: thick < 4 ? "lane thin" : "lane" });
    if (lane.isNamed) {
      const middle = lane.y + thick / 2 + 4;
      shape(group, "text", { x: LEFT - 6, y: middle, "text-anchor": "end" }, `slot ${lane.slot}`);
    }
    for (const { wait, start } of lane.bars) {
      // A wait may lie beside an earlier request of the slot, so it is thin and at the lane's foot.
      const width = x(start) - x(wait);
      if (width > 0) shape(group, "rect", { class: "wait", x: x(wait), y: lane.y + thick * .72, width, height: thick * .22 });
    }
    for (const bar of lane.bars) {
      const left = x(bar.start), width = Math.max(x(bar.end) - left, .8);
      const node = shape(group, "rect", { class: `bar ${bar.kind ?? ""}`, x: left, y: lane.y, width, height: thick * .92,
        fill: colour(bar.instance) });
      bars.push({ bar, node });
      const isRoom = thick >= 12 && width >= 40 && bar.kind !== "parked";
      if (isRoom) shape(group, "text", { class: "label", x: left + 4, y: lane.y + thick - 5 }, `#${bar.instance}`);
    }
  }
  return bars;
}

// Lets people choose a bar by pointing, tapping or with the arrow keys; `told` then says what it is. `drawn()` has the bars as
// `drawLanes` returned them, and `key` tells a bar from others when it is drawn anew.
function choosing(svg, told, drawn, key) {
  let chosen;
  const mark = () => {
    for (const { bar, node } of drawn()) {
      if (key(bar) !== chosen) continue;
      node.classList.add("chosen");
      const words = bar.tell();
      if (told.textContent !== words) told.textContent = words;
    }
  };
  const choose = entry => {
    for (const { node } of drawn()) node.classList.remove("chosen");
    chosen = key(entry.bar);
    mark();
  };
  for (const event of ["pointerover", "click"]) {
    svg.addEventListener(event, ({ target }) => {
      const entry = drawn().find(({ node }) => node === target);
      if (entry) choose(entry);
    });
  }
  svg.addEventListener("keydown", event => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], bars = drawn();
    if (!by || bars.length === 0) return;
    event.preventDefault();
    const at = bars.findIndex(({ bar }) => key(bar) === chosen);
    choose(bars[at < 0 ? 0 : Math.min(Math.max(at + by, 0), bars.length - 1)]);
  });
  return mark;
}

// The place where `choosing` tells of a bar.
function receiptLine(parent) {
  const told = element(parent, "p", "Point at a bar, tap it, or use the arrow keys: it shows the request's receipt.");
  told.id = "receipt";
  told.setAttribute("aria-live", "polite");
  return told;
}
