"use strict";
(async () => {
  const view = JSON.parse(document.getElementById("view").textContent);
  const maps = JSON.parse(document.getElementById("maps").textContent);
  const element = (id) => document.getElementById(id);
  const [ny, nx] = view.shape;
  const COLOURS = { gained: "#35e0a1", lost: "#ff5566", artefacts: "#c79bff", both: "#ffffff", catalogue: "#ffd34e" };
  const ENTRIES = 65536;
  const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
    [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37]];

  const list = element("catalogue") && JSON.parse(element("catalogue").textContent);
  const listed = list && ["x", "y"].map((name) => list.names.indexOf(name))
    .map((column) => Float64Array.from(list.rows, (row) => row[column]));
  if (list) view.marks.catalogue = list.rows.flatMap((_, i) => [listed[0][i], listed[1][i]]);
  let chosen = -1;

  // --- what the page brings, as numbers

  async function codesOf(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const sheet = new OffscreenCanvas(image.width, image.height);
    const pen = sheet.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const pixels = pen.getImageData(0, 0, image.width, image.height).data;
    const codes = new Uint8Array(image.width * image.height);
    for (let i = 0; i < codes.length; i++) codes[i] = pixels[4 * i];
    return { codes, width: image.width, height: image.height };
  }

  function gridOf(grid) {
    const bytes = Uint8Array.from(atob(grid.codes), (letter) => letter.charCodeAt(0));
    const codes = new Uint16Array(bytes.buffer);
    const step = (grid.high - grid.low) / 65535;
    return Float64Array.from(codes, (code) => grid.low + step * code);
  }

  const [flat, sources] = await Promise.all([codesOf(view.flat), codesOf(view.sources)]);
  const { width, height } = flat;
  const value = Float32Array.from(view.codes, (number) => (number === null ? NaN : number));
  const gradient = gridOf(view.gradient);

  // The smooth sky in a row of the picture, between the nodes of its grid.
  function gradientRow(row, into) {
    const [rows, columns] = view.gradient.shape;
    const scale = view.factor / view.gradient.factor;
    const place = (n, i) => Math.min(Math.max((i + 0.5) * scale - 0.5, 0), n - 1);
    const y = place(rows, height - 1 - row), below = Math.min(Math.floor(y), Math.max(rows - 2, 0));
    const up = Math.min(below + 1, rows - 1), v = y - below;
    for (let i = 0; i < width; i++) {
      const x = place(columns, i), left = Math.min(Math.floor(x), Math.max(columns - 2, 0));
      const right = Math.min(left + 1, columns - 1), u = x - left;
      into[i] = (1 - v) * ((1 - u) * gradient[below * columns + left] + u * gradient[below * columns + right])
        + v * ((1 - u) * gradient[up * columns + left] + u * gradient[up * columns + right]);
    }
  }

  // --- stretches: from units of the sky rms to grey levels

  function stretch() {
    const times = Math.pow(10, -element("white").value / 70);
    if (document.querySelector("[name=stretch]:checked").value === "zscale") {
      const [low, high] = view.zscale[element("sky").checked ? "data" : "flat"];
      const gain = 255 / ((high - low) * times || 1);
      return (number) => (number - low) * gain;
    }
    // A sky that falls far below its level would be black.
    const lowest = element("sky").checked ? view.zscale.data[0] / view.noise : 0;
    const low = Math.asinh(Math.min(-2, lowest)), gain = 255 / (Math.asinh(view.white * times / view.noise) - low);
    // Between black and white from a table: millions of pixels are asked for.
    const black = view.noise * Math.sinh(low), step = (view.white * times - black) / ENTRIES;
    const table = Float32Array.from({ length: ENTRIES + 1 },
      (_, i) => (Math.asinh((black + i * step) / view.noise) - low) * gain);
    return (number) => {
      const place = (number - black) / step;
      return place <= 0 ? 0 : place >= ENTRIES ? 255 : table[place | 0];
    };
  }

  function painted(kind, grey) {
    const image = new ImageData(width, height);
    const bytes = new Uint8ClampedArray(image.data.buffer);
    const levels = Uint8ClampedArray.from(value, grey);
    const sky = new Float64Array(width);
    for (let row = 0, i = 0; row < height; row++) {
      if (kind === "data") gradientRow(row, sky);
      for (let column = 0; column < width; column++, i++) {
        const code = kind === "sources" ? sources.codes[i] : flat.codes[i];
        let level = levels[code];
        if (kind === "data") level = grey(value[code] + sky[column]);
        if (kind === "noise") level = grey(value[code] - value[sources.codes[i]]);
        bytes[4 * i] = bytes[4 * i + 1] = bytes[4 * i + 2] = level;
        bytes[4 * i + 3] = code ? 255 : 70;
      }
    }
    const sheet = new OffscreenCanvas(width, height);
    sheet.getContext("2d").putImageData(image, 0, 0);
    return sheet;
  }

  // --- the canvas

  const canvas = element("canvas"), pen = canvas.getContext("2d");
  let left, right, scale = 1, originX = 0, originY = 0, fitted = 1, waiting = false;

  function repaint() {
    const grey = stretch(), part = element("part").value;
    left = painted(element("sky").checked ? "data" : "flat", grey);
    right = painted(part, grey);
    element("name-right").textContent = part;
    element("name-left").textContent = element("sky").checked ? "before" : "before, sky subtracted";
    redraw();
  }

  function resize() {
    const room = element("frame").parentElement.clientWidth - 36;
    const wide = Math.min(room, Math.max(window.innerHeight * 0.8, 320) * width / height);
    element("frame").style.width = wide + "px";
    element("frame").style.height = wide * height / width + "px";
    const pixels = window.devicePixelRatio || 1;
    canvas.width = Math.round(wide * pixels);
    canvas.height = Math.round(wide * height / width * pixels);
    document.querySelector(".divider").style.maxWidth = wide + "px";
    fit();
  }

  function fit() {
    scale = fitted = canvas.width / width;
    originX = originY = 0;
    redraw();
  }

  function zoom(times, x = canvas.width / 2, y = canvas.height / 2) {
    const next = Math.min(Math.max(scale * times, fitted), 40 * Math.max(fitted, 1));
    originX = x - (x - originX) * next / scale;
    originY = y - (y - originY) * next / scale;
    scale = next;
    redraw();
  }

  function pan(x, y) {
    originX += x;
    originY += y;
    redraw();
  }

  function redraw() {
    originX = Math.min(0, Math.max(originX, canvas.width - width * scale));
    originY = Math.min(0, Math.max(originY, canvas.height - height * scale));
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }

  const dividerAt = () => Math.round(element("divider").value / 100 * canvas.width);

  function drawSide(sheet, from, to) {
    pen.save();
    pen.beginPath();
    pen.rect(from, 0, to - from, canvas.height);
    pen.clip();
    pen.drawImage(sheet, originX, originY, width * scale, height * scale);
    pen.restore();
  }

  function draw() {
    waiting = false;
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = scale < 1.5;
    const at = dividerAt();
    drawSide(left, 0, at);
    drawSide(right, at, canvas.width);
    for (const box of document.querySelectorAll("#marks input:checked")) drawMarks(box.value);
    pen.fillStyle = "#fff";
    pen.fillRect(at - 1, 0, 2, canvas.height);
    pen.beginPath();
    pen.arc(at, canvas.height / 2, 9 * (window.devicePixelRatio || 1), 0, 2 * Math.PI);
    pen.fill();
    canvas.dataset.drawn = Number(canvas.dataset.drawn || 0) + 1;
  }

  function drawMarks(kind) {
    const marks = view.marks[kind], unit = window.devicePixelRatio || 1;
    const size = Math.max(5 * unit, 3.5 * scale / view.factor);
    pen.strokeStyle = COLOURS[kind];
    pen.lineWidth = 1.4 * unit;
    pen.beginPath();
    for (let i = 0; i < marks.length; i += 2) {
      const [x, y] = onCanvas(marks[i], marks[i + 1]);
      if (x < -size || y < -size || x > canvas.width + size || y > canvas.height + size) continue;
      if (kind === "lost") pen.rect(x - size, y - size, 2 * size, 2 * size);
      else if (kind === "artefacts") {
        pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size);
        pen.moveTo(x - size, y + size); pen.lineTo(x + size, y - size);
      } else if (kind === "catalogue") {
        const reach = i / 2 === chosen ? 2 * size : size;
        pen.moveTo(x - reach, y); pen.lineTo(x, y - reach); pen.lineTo(x + reach, y); pen.lineTo(x, y + reach);
        pen.lineTo(x - reach, y);
      } else {
        const radius = kind === "both" ? size / 3 : size;
        pen.moveTo(x + radius, y);
        pen.arc(x, y, radius, 0, 2 * Math.PI);
      }
    }
    pen.stroke();
  }

  // Pixels count from 0 at the lower left; their centres are whole numbers.
  const onCanvas = (x, y) => [originX + scale * (x + 0.5) / view.factor,
    originY + scale * (height - (y + 0.5) / view.factor)];

  function read(event) {
    const box = canvas.getBoundingClientRect(), pixels = canvas.width / box.width;
    const column = Math.floor(((event.clientX - box.left) * pixels - originX) / scale);
    const row = Math.floor(((event.clientY - box.top) * pixels - originY) / scale);
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    const i = row * width + column, sky = new Float64Array(width);
    gradientRow(row, sky);
    const inDataUnits = (number) => (number * view.rms).toPrecision(4);
    const x = Math.min(Math.floor((column + 0.5) * view.factor), nx - 1);
    const y = Math.min(Math.floor((height - row - 0.5) * view.factor), ny - 1);
    element("readout").textContent = `x ${x}  y ${y}   ·   data ` +
      (view.level + (value[flat.codes[i]] + sky[column]) * view.rms).toPrecision(6) +
      `   sources ${inDataUnits(value[sources.codes[i]])}   (${value[sources.codes[i]].toFixed(1)} rms)`;
  }

  // --- the catalogue: the row of the source next to a click

  function choose(event) {
    const box = canvas.getBoundingClientRect(), pixels = canvas.width / box.width;
    const at = [(event.clientX - box.left) * pixels, (event.clientY - box.top) * pixels];
    let nearest = 15 * pixels;
    chosen = -1;
    list.rows.forEach((_, i) => {
      const [x, y] = onCanvas(listed[0][i], listed[1][i]);
      const distance = Math.hypot(x - at[0], y - at[1]);
      if (distance < nearest) { nearest = distance; chosen = i; }
    });
    const values = chosen < 0 ? ["no source chosen"] : list.rows[chosen];
    element("row").replaceChildren(...values.map((value, k) => {
      const line = document.createElement("tr");
      const cells = chosen < 0 ? [value] : [list.names[k], value, list.units[k], list.meanings[k]];
      line.append(...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return line;
    }));
    document.querySelector("#marks [value=catalogue]").checked = true;
    redraw();
  }

  if (list) {
    element("download").addEventListener("click", () => {
      const lines = [list.names, ...list.rows].map((row) => row.join(","));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
      link.download = document.title.split(":")[0] + ".csv";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  // --- hands on it

  let held = null;
  const pixelsOf = (event) => canvas.width / canvas.getBoundingClientRect().width;
  const across = (event) => (event.clientX - canvas.getBoundingClientRect().left) * pixelsOf(event);

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const near = Math.abs(across(event) - dividerAt()) < 14 * pixelsOf(event);
    held = { divider: near || scale <= fitted, x: event.clientX, y: event.clientY };
    if (list) choose(event);
    if (held.divider) moveDivider(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    read(event);
    if (!held) return;
    if (held.divider) { moveDivider(event); return; }
    pan((event.clientX - held.x) * pixelsOf(event), (event.clientY - held.y) * pixelsOf(event));
    held = { divider: false, x: event.clientX, y: event.clientY };
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { held = null; });

  function moveDivider(event) {
    element("divider").value = 100 * across(event) / canvas.width;
    redraw();
  }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), across(event), (event.clientY - box.top) * pixelsOf(event));
  }, { passive: false });

  const KEYS = {
    ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0),
    ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
    "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit,
  };
  canvas.addEventListener("keydown", (event) => {
    if (!(event.key in KEYS) || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });

  element("in").addEventListener("click", () => zoom(1.6));
  element("out").addEventListener("click", () => zoom(1 / 1.6));
  element("fit").addEventListener("click", fit);
  element("divider").addEventListener("input", redraw);
  for (const control of [element("white"), element("sky"), element("part"),
    ...document.querySelectorAll("[name=stretch]")]) control.addEventListener("input", repaint);
  // A crowded field shows itself first, the marks when they are asked for.
  for (const box of document.querySelectorAll("#marks input")) {
    box.checked = ["gained", "lost"].includes(box.value) && view.marks[box.value].length < 1000;
    box.addEventListener("input", redraw);
  }
  window.addEventListener("resize", resize);

  // --- the maps

  function colour(part) {
    const place = Math.min(Math.max(part, 0), 1) * (VIRIDIS.length - 1);
    const k = Math.min(Math.floor(place), VIRIDIS.length - 2), u = place - k;
    return VIRIDIS[k].map((low, channel) => low + u * (VIRIDIS[k + 1][channel] - low));
  }

  for (const map of maps) {
    const [rows, columns] = map.grid.shape, numbers = gridOf(map.grid);
    const small = new ImageData(columns, rows);
    numbers.forEach((number, i) => {
      const row = rows - 1 - Math.floor(i / columns), column = i % columns;
      const part = (number - map.low) / (map.high - map.low || 1);
      small.data.set([...colour(part), 255], 4 * (row * columns + column));
    });
    const sheet = new OffscreenCanvas(columns, rows);
    sheet.getContext("2d").putImageData(small, 0, 0);
    const target = element("map-" + map.id);
    target.width = Math.round(nx / Math.max(nx, ny) * 640);
    target.height = Math.round(ny / Math.max(nx, ny) * 640);
    const mapPen = target.getContext("2d");
    mapPen.imageSmoothingQuality = "high";
    mapPen.drawImage(sheet, 0, 0, target.width, target.height);
  }
  for (const bar of document.querySelectorAll(".bar"))
    bar.style.background = `linear-gradient(to right, ${VIRIDIS.map((c) => `rgb(${c})`)})`;

  const started = performance.now();
  repaint();
  resize();
  canvas.dataset.painting = Math.round(performance.now() - started);
  canvas.dataset.ready = "yes";
})();
