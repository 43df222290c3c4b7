// Curves over time and the power spectrum, drawn by plotly.js in the colours of the page.
async function unpackPlotly() {
  const packed = Uint8Array.from(atob(byId("plotly-packed").textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const source = await new Response(stream).text();
  document.head.append(make("script", {}, source)); // runs at once; the page's policy knows its hash
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function line(place, x, y) {
  const { role } = data.versions[place];
  const width = role === "result" ? 2 : 1.6;
  return {
    x,
    y,
    type: "scatter",
    mode: y.length < 60 ? "lines+markers" : "lines",
    hoverinfo: "none",
    line: { color: colour(colourName(place)), width, dash: role === "enlarged" ? "dot" : "solid" },
    marker: { size: 4 },
  };
}

function axis(title, more = {}) {
  return {
    title: { text: title, standoff: 8 },
    gridcolor: colour("--line"),
    linecolor: colour("--line"),
    zeroline: false,
    automargin: true,
    fixedrange: true,
    ...more,
  };
}

function layout(x, y, more = {}) {
  return {
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    showlegend: false,
    hovermode: "x",
    hoverdistance: -1,
    dragmode: false,
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--soft") },
    margin: { l: 8, r: 8, t: 8, b: 8 },
    xaxis: x,
    yaxis: y,
    ...more,
  };
}

const plotSettings = { displayModeBar: false, responsive: true, doubleClick: false };

function legend(id, places) {
  byId(id).replaceChildren(...places.map((place) => make("span", {}, swatch(place), data.versions[place].label)));
}

function drawCurves() {
  const curve = data.curves[Number(byId("metric").value)];
  if (!curve) return;
  const lines = curve.lines.map(({ version, seconds, values }) => line(version, seconds, values));
  const dots = {
    x: data.moments.map((moment) => moment.seconds),
    y: data.moments.map(() => 0),
    yaxis: "y2",
    mode: "markers",
    type: "scatter",
    hoverinfo: "none",
    marker: {
      symbol: "triangle-up",
      size: data.moments.map((_, place) => (place === state.moment ? 14 : 10)),
      color: colour("--accent"),
      opacity: 1,
    },
  };
  const upright = (x, style) => ({
    type: "line",
    xref: "x",
    yref: "paper",
    x0: x,
    x1: x,
    y0: 0,
    y1: 1,
    layer: "below",
    line: style,
  });
  const shapes = [
    ...data.cuts.map((seconds) => upright(seconds, { color: colour("--soft"), width: 1, dash: "dash" })),
    ...data.moments
      .filter((_, place) => place === state.moment)
      .map((moment) => upright(moment.seconds, { color: colour("--accent"), width: 1.5 })),
  ];
  const unit = curve.unit === "1" ? "" : `In ${curve.unit}. `;
  byId("metric-words").textContent = `${unit}${curve.higher ? "Higher" : "Lower"} is better.`;
  const marks = { yaxis2: { overlaying: "y", range: [-0.03, 1], visible: false, fixedrange: true }, shapes };
  Plotly.react("curve-plot", [...lines, dots], layout(axis("seconds"), axis(""), marks), plotSettings);
  legend(
    "legend",
    curve.lines.map(({ version }) => version),
  );
}

function sayFigures(seconds) {
  const curve = data.curves[Number(byId("metric").value)];
  const figures = curve.lines
    .filter(({ seconds: all }) => all.length)
    .map(({ version, seconds: all, frames, values }) => {
      const distances = all.map((other) => Math.abs(other - seconds));
      const place = distances.indexOf(Math.min(...distances));
      return { frame: frames[place], text: `${data.versions[version].label} ${values[place]}` };
    });
  byId("curve-words").textContent = figures.length
    ? `Frame ${figures[0].frame}, ${clock(seconds)}: ${figures.map(({ text }) => text).join("; ")}`
    : "";
}

function drawSpectrum() {
  const { frequency, power } = data.spectrum;
  const lines = power.map((values, place) => line(place, frequency, values)).map((one) => ({ ...one, mode: "lines" }));
  Plotly.react("spectrum-plot", lines, layout(axis("cycles per pixel", { range: [0, 0.5] }), axis("dB")), plotSettings);
  legend(
    "spectrum-legend",
    data.versions.map((_, place) => place),
  );
}

function drawPlots() {
  drawCurves();
  drawSpectrum();
}

async function startPlots() {
  fillSelect(
    byId("metric"),
    data.curves.map((curve, place) => [place, curve.metric]),
    0,
  );
  byId("curves").hidden = !data.curves.length;
  byId("spectrum").hidden = !data.spectrum.power.length;
  await unpackPlotly();
  drawPlots();
  const plot = byId("curve-plot");
  if (data.curves.length) {
    plot.on("plotly_click", ({ points }) => showMoment(nearestMoment(points[0].x)));
    plot.on("plotly_hover", ({ points }) => sayFigures(points[0].x));
  }
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    showMoment(state.moment + step);
  });
  byId("metric").addEventListener("change", () => {
    drawCurves();
    sayFigures(data.moments[state.moment].seconds);
  });
  onMoment((moment) => {
    drawCurves();
    if (data.curves.length) sayFigures(moment.seconds);
  });
}
