// Whole frames: two on each other with a line between, or all side by side; one zoom for all of them.
const view = { zoom: 1, x: 0.5, y: 0.5, tiles: [] }; // x and y: the point of the picture in the middle, from 0 to 1

function startViewer() {
  const labels = data.versions.map((version, place) => [place, version.label]);
  const first = (role) => data.versions.findIndex((version) => version.role === role);
  const results = labels.filter(([place]) => data.versions[place].role === "result").map(([place]) => place);
  const before = [first("enlarged"), results[1], first("truth"), results[0]].find((place) => place >= 0);
  fillSelect(byId("left-version"), labels, before);
  fillSelect(byId("right-version"), labels, data.shown ?? results[0]);
  for (const id of ["left-version", "right-version"]) byId(id).addEventListener("change", showPictures);
  byId("slider").addEventListener("input", placeDivider);
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => chooseView(button.dataset.view));
  for (const button of document.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => zoomBy(button.dataset.zoom));
  makeGrid();
  for (const element of [byId("stage"), ...view.tiles.map((tile) => tile.box)]) listenToPointer(element);
  byId("stage").addEventListener("keydown", moveByKey);
  new ResizeObserver(drawView).observe(byId("pictures"));
  onMoment(showPictures);
}

function makeGrid() {
  data.versions.forEach((version, place) => {
    const picture = make("img", { alt: version.label, draggable: "false" });
    const box = make("div", { class: "tile stage", tabindex: "0" }, picture);
    box.addEventListener("keydown", moveByKey);
    view.tiles.push({ box, picture, place });
    byId("grid-view").append(make("figure", {}, box, make("figcaption", {}, swatch(place), version.label)));
  });
}

function chooseView(name) {
  byId("slider-view").hidden = name !== "slider";
  byId("grid-view").hidden = name !== "grid";
  for (const button of document.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", button.dataset.view === name);
  showPictures();
}

function showPictures() {
  const moment = data.moments[state.moment];
  for (const side of ["left", "right"]) {
    const place = Number(byId(`${side}-version`).value);
    byId(`${side}-picture`).src = moment.pictures[place];
    byId(`${side}-picture`).alt = `${data.versions[place].label}, frame ${moment.frame}`;
    byId(`${side}-tag`).textContent = data.versions[place].label;
  }
  if (!byId("grid-view").hidden) for (const tile of view.tiles) tile.picture.src = moment.pictures[tile.place];
  drawView();
}

function drawView() {
  const moment = data.moments[state.moment];
  if (!moment) return;
  const stage = byId("stage");
  stage.style.aspectRatio = `${moment.width} / ${moment.height}`;
  byId("slider-view").style.maxWidth = `calc(80vh * ${moment.width / moment.height})`;
  const placed = [byId("left-picture"), byId("right-picture")].map((picture) => place(picture, stage, moment));
  for (const tile of view.tiles) {
    tile.box.style.aspectRatio = `${moment.width} / ${moment.height}`;
    if (!byId("grid-view").hidden) place(tile.picture, tile.box, moment);
  }
  outline("outline", moment.box, placed[0]);
  outline("column", moment.column, placed[0]);
  placeDivider();
  byId("zoom-level").textContent = view.zoom === 1 ? "Fit" : `${view.zoom.toFixed(view.zoom < 10 ? 1 : 0)}×`;
}

function place(picture, box, moment) {
  const [width, height] = [box.clientWidth, box.clientHeight];
  const left = Math.min(0, Math.max(width - width * view.zoom, width / 2 - view.x * width * view.zoom));
  const top = Math.min(0, Math.max(height - height * view.zoom, height / 2 - view.y * height * view.zoom));
  picture.style.width = `${width}px`;
  picture.style.height = `${height}px`;
  picture.style.transform = `translate(${left}px, ${top}px) scale(${view.zoom})`;
  const scale = (width * view.zoom) / moment.width;
  picture.classList.toggle("crisp", scale >= 2);
  box.classList.toggle("zoomed", view.zoom > 1);
  return { left, top, scale };
}

function outline(id, [top, left, height, width], placed) {
  Object.assign(byId(id).style, {
    left: `${placed.left + left * placed.scale}px`,
    top: `${placed.top + top * placed.scale}px`,
    width: `${width * placed.scale}px`,
    height: `${height * placed.scale}px`,
  });
}

function placeDivider() {
  const at = Number(byId("slider").value);
  byId("divider").style.left = `${at}%`;
  byId("left-layer").style.clipPath = `inset(0 ${100 - at}% 0 0)`;
}

function zoomBy(direction) {
  zoomTo({ in: view.zoom * 1.5, out: view.zoom / 1.5, fit: 1 }[direction]);
}

// The point of the picture under (u, v), given from 0 to 1 across the box, stays where it is.
function zoomTo(zoom, u = 0.5, v = 0.5) {
  const next = Math.max(1, Math.min(32, zoom));
  view.x += (u - 0.5) * (1 / view.zoom - 1 / next);
  view.y += (v - 0.5) * (1 / view.zoom - 1 / next);
  view.zoom = next < 1.05 ? 1 : next;
  keepInside();
  drawView();
}

function moveBy(dx, dy) {
  view.x += dx / view.zoom;
  view.y += dy / view.zoom;
  keepInside();
  drawView();
}

function keepInside() {
  const margin = 0.5 / view.zoom;
  view.x = Math.min(1 - margin, Math.max(margin, view.x));
  view.y = Math.min(1 - margin, Math.max(margin, view.y));
}

function moveByKey(event) {
  const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] };
  if (event.key === "+" || event.key === "=") zoomBy("in");
  else if (event.key === "-") zoomBy("out");
  else if (event.key === "0") zoomBy("fit");
  else if (moves[event.key] && view.zoom > 1) moveBy(...moves[event.key]);
  else return;
  event.preventDefault();
}

function listenToPointer(box) {
  const pointers = new Map();
  const spread = () => {
    const [a, b] = [...pointers.values()];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  box.addEventListener(
    "wheel",
    (event) => {
      const zoomsOutOfFit = view.zoom === 1 && event.deltaY > 0;
      if (zoomsOutOfFit) return; // the page scrolls on
      event.preventDefault();
      const bounds = box.getBoundingClientRect();
      zoomTo(
        view.zoom * Math.exp(-event.deltaY / 300),
        (event.clientX - bounds.left) / bounds.width,
        (event.clientY - bounds.top) / bounds.height,
      );
    },
    { passive: false },
  );
  box.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    box.setPointerCapture(event.pointerId);
    if (box.id === "stage" && view.zoom === 1 && pointers.size === 1) slideTo(event);
  });
  box.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const apart = pointers.size === 2 ? spread() : 0;
    pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (apart) zoomTo(view.zoom * (spread() / apart));
    else if (view.zoom > 1)
      moveBy((before.x - event.clientX) / box.clientWidth, (before.y - event.clientY) / box.clientHeight);
    else if (box.id === "stage") slideTo(event);
  });
  for (const name of ["pointerup", "pointercancel"])
    box.addEventListener(name, (event) => pointers.delete(event.pointerId));
}

function slideTo(event) {
  const bounds = byId("stage").getBoundingClientRect();
  byId("slider").value = (100 * (event.clientX - bounds.left)) / bounds.width;
  placeDivider();
}
