"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

// Before and after

function showShot() {
  const shot = data.shots[byId("shot-frame").value];
  for (const side of ["left", "right"]) {
    const picture = shot.pictures[byId("shot-" + side).value];
    byId("image-" + side).src = picture.url;
    byId("image-" + side).alt = `${side}: ${picture.label}, ${shot.title}`;
  }
}

function showShare() {
  const share = byId("share");
  byId("image-left").style.clipPath = `inset(0 ${100 - share.value}% 0 0)`;
  byId("edge").style.left = share.value + "%";
  share.setAttribute("aria-valuetext", share.value + " % left picture");
}

function drag(event) {
  if (event.buttons !== 1) return;
  const box = byId("compare").getBoundingClientRect();
  byId("share").value = Math.round((100 * (event.clientX - box.left)) / box.width);
  showShare();
}

if (data.shots.length) {
  for (const id of ["shot-frame", "shot-left", "shot-right"]) byId(id).addEventListener("change", showShot);
  byId("share").addEventListener("input", showShare);
  byId("compare").addEventListener("pointerdown", (event) => {
    byId("compare").setPointerCapture(event.pointerId);
    drag(event);
  });
  byId("compare").addEventListener("pointermove", drag);
  showShot();
  showShare();
}

// Frame by frame; colours of Okabe and Ito (2008), darkened to 3:1 on white, and dashes beside them

const STYLES = [
  ["#000000", []], ["#005a9c", []], ["#b34700", [6, 3]], ["#00765a", [2, 3]], ["#a03c78", [8, 3, 2, 3]],
  ["#7a5c00", [10, 4]], ["#1f7fb5", [4, 4]], ["#5b5b66", [1, 2]], ["#7b2d00", [12, 3]], ["#4b3aa5", [3, 6]],
];
let plot = null;

// Which border a line's mark in the legend has: 0 unbroken, 1 of dots, 2 of dashes
function kind(dash) {
  if (!dash || !dash.length) return 0;
  return Math.max(...dash) < 5 ? 1 : 2;
}

function size() {
  const width = byId("plot").clientWidth;
  return { width: width, height: Math.max(220, Math.min(380, width * 0.5)) };
}

function drawPlot() {
  const metric = data.metrics[byId("metric").value];
  const number = (value) => (value == null ? "–" : value.toFixed(metric.digits));
  const series = metric.lines.map((line, i) => ({
    label: line.label,
    stroke: STYLES[i % STYLES.length][0],
    dash: STYLES[i % STYLES.length][1],
    width: i < 2 ? 2.5 : 1.5,
    points: { show: data.frames.length < 40 },
    value: (self, value) => number(value),
  }));
  if (plot) plot.destroy();
  const single = data.frames.length === 1;
  plot = new uPlot(
    {
      ...size(),
      scales: { x: { time: false, range: single ? [data.frames[0] - 1, data.frames[0] + 1] : undefined } },
      axes: [{ label: "frame", incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }, { label: metric.name, size: 64 }],
      series: [{ label: "frame" }, ...series],
      legend: { markers: { width: 3, dash: (self, i) => ["solid", "dotted", "dashed"][kind(self.series[i].dash)] } },
    },
    [data.frames, ...metric.lines.map((line) => line.values)],
    byId("plot"),
  );
  const ends = metric.lines.map((line) => {
    const told = line.values.filter((value) => value != null);
    const mean = told.length ? told.reduce((a, b) => a + b) / told.length : null;
    return `${line.label} ${number(mean)}`;
  });
  byId("plot").setAttribute("aria-label", `${metric.name} of each frame; means: ${ends.join("; ")}`);
}

function step(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
  const last = data.frames.length - 1;
  let index = plot.cursor.idx ?? 0;
  if (event.key in steps) index += steps[event.key];
  else if (event.key === "Home") index = 0;
  else if (event.key === "End") index = last;
  else return;
  event.preventDefault();
  index = Math.max(0, Math.min(last, index));
  plot.setCursor({ left: plot.valToPos(data.frames[index], "x"), top: 0 });
  const metric = data.metrics[byId("metric").value];
  const text = (value) => (value == null ? "none" : value.toFixed(metric.digits));
  const told = metric.lines.map((line) => `${line.label} ${text(line.values[index])}`);
  byId("spoken").textContent = `frame ${data.frames[index]}: ${told.join("; ")}`;
}

data.metrics.forEach((metric, i) => byId("metric").add(new Option(metric.name, i)));
byId("metric").addEventListener("change", drawPlot);
byId("plot").addEventListener("keydown", step);
drawPlot();
new ResizeObserver(() => plot.setSize(size())).observe(byId("plot"));
