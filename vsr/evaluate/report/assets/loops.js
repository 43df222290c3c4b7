// Neighbouring frames in turn, for all versions in step, and one column of pixels over time.
const loop = { timer: 0, step: 0, tiles: [], slices: [] };

function startLoops() {
  data.versions.forEach((version, place) => {
    loop.tiles.push(addCanvas("loops", version, place));
    loop.slices.push(addCanvas("slices", version, place));
  });
  const rows = Math.ceil(data.versions.length / 5);
  for (const id of ["loops", "slices"]) byId(id).style.setProperty("--columns", Math.ceil(data.versions.length / rows));
  byId("play").addEventListener("click", () => play(!loop.timer));
  byId("step").addEventListener("click", () => {
    play(false);
    drawLoops(loop.step + 1);
  });
  byId("loop-speed").addEventListener("change", () => play(Boolean(loop.timer)));
  byId("loop-length").addEventListener("change", () => drawLoops(0));
  onMoment(loadLoops);
}

function addCanvas(parent, version, place) {
  const canvas = make("canvas", { role: "img", "aria-label": version.label });
  byId(parent).append(make("figure", {}, canvas, make("figcaption", {}, swatch(place), version.label)));
  return { canvas, picture: null };
}

async function loadLoops(moment) {
  const [, , height, width] = moment.box;
  const [first, count] = moment.loopFrames;
  fillSelect(
    byId("loop-length"),
    [
      [2, "2 (A/B)"],
      [count, `${count}`],
    ].slice(count > 2 ? 0 : 1),
    count,
  );
  const words = `Frames ${first} to ${first + count - 1}, ${width} × ${height} pixels where ${data.shown === null ? "the versions differ most" : "most is to be seen"}. Flicker shows as a change where the scene keeps still.`;
  byId("loop-words").textContent = words;
  const [sliceFirst, sliceCount] = moment.sliceFrames;
  byId("slice-words").textContent =
    `The dotted line in the picture above, frames ${sliceFirst} to ${sliceFirst + sliceCount - 1} from left to right. Steady detail draws smooth lines; flicker breaks them up.`;
  await Promise.all(
    data.versions.map(async (_, place) => {
      loop.tiles[place].picture = await decoded(moment.loops[place]);
      loop.slices[place].picture = await decoded(moment.slices[place]);
    }),
  );
  if (moment !== data.moments[state.moment]) return; // another one was chosen meanwhile
  drawLoops(0);
  for (const { canvas, picture } of loop.slices) drawSlice(canvas, picture);
}

async function decoded(uri) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  return picture;
}

function drawLoops(step) {
  const moment = data.moments[state.moment];
  const [, , height, width] = moment.box;
  loop.step = step % Number(byId("loop-length").value || 1);
  byId("loops").dataset.frame = moment.loopFrames[0] + loop.step;
  for (const { canvas, picture } of loop.tiles) {
    if (!picture) continue;
    Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.drawImage(picture, 0, loop.step * height, width, height, 0, 0, width, height);
  }
}

// Stretched in time to about a square, by a whole number, so that frames stay equally wide.
function drawSlice(canvas, picture) {
  const stretch = Math.max(1, Math.round(picture.height / picture.width));
  Object.assign(canvas, { width: picture.width * stretch, height: picture.height });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
}

function play(isOn) {
  clearInterval(loop.timer);
  loop.timer = isOn ? setInterval(() => drawLoops(loop.step + 1), 1000 / Number(byId("loop-speed").value)) : 0;
  byId("play").textContent = isOn ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", isOn);
}
