"use strict";
document.documentElement.classList.add("js");

(function filterMistakes() {
  const choice = document.getElementById("mistake-filter");
  if (!choice || choice.options.length < 3) return;
  choice.closest(".filter").hidden = false;
  choice.addEventListener("change", () => {
    for (const item of document.querySelectorAll("#mistake-gallery > li")) {
      item.hidden = choice.value !== "" && item.dataset.true !== choice.value;
    }
  });
})();

(function hoverMap() {
  const drawing = document.getElementById("map-drawing");
  const data = document.getElementById("dots");
  if (!drawing || !data) return;
  const { names, dots } = JSON.parse(data.textContent);
  const ring = document.getElementById("map-ring");
  const tip = document.getElementById("map-tip");
  const view = drawing.viewBox.baseVal;
  const order = dots.map((_, place) => place).sort((a, b) => dots[a][0] - dots[b][0] || dots[a][1] - dots[b][1]);
  let lit = null;
  let current = -1;

  function line(tag, text) {
    const element = document.createElement(tag);
    element.textContent = text;
    tip.append(element);
  }

  function show(place) {
    current = place;
    const [x, y, label, called, picture, file] = dots[place];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    ring.setAttribute("visibility", "visible");
    tip.replaceChildren();
    if (picture) {
      const frame = document.createElement("span");
      frame.className = "picture " + picture;
      tip.append(frame);
    }
    line("strong", names[label]);
    if (called >= 0 && called !== label) {
      line("span", "predicted " + names[called]);
      tip.lastChild.className = "called";
    }
    line("span", file);
    tip.lastChild.className = "file";
    tip.hidden = false;
    const scale = drawing.clientWidth / view.width;
    const room = drawing.clientWidth - tip.offsetWidth;
    const left = x * scale + 18 > room ? x * scale - tip.offsetWidth - 18 : x * scale + 18;
    tip.style.left = Math.max(0, Math.min(room, left)) + "px";
    tip.style.top = Math.min(y * scale + 14, Math.max(0, drawing.clientHeight - tip.offsetHeight)) + "px";
  }

  function hide() {
    ring.setAttribute("visibility", "hidden");
    tip.hidden = true;
  }

  // Prefers a dot with a thumbnail to a slightly closer one without.
  function nearest(x, y) {
    let best = -1;
    let least = 30 * 30;
    for (let place = 0; place < dots.length; place++) {
      const dot = dots[place];
      if (lit !== null && dot[2] !== lit) continue;
      const away = (dot[0] - x) ** 2 + (dot[1] - y) ** 2 + (dot[4] ? 0 : 60);
      if (away < least) { least = away; best = place; }
    }
    return best;
  }

  function point(event) {
    const box = drawing.getBoundingClientRect();
    const x = (event.clientX - box.left) * view.width / box.width;
    const y = (event.clientY - box.top) * view.height / box.height;
    const place = nearest(x, y);
    if (place < 0) hide(); else if (place !== current || tip.hidden) show(place);
  }

  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
  drawing.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || !order.length) return;
    event.preventDefault();
    let place = order.indexOf(current);
    do {
      place = (place + step + order.length) % order.length;
    } while (lit !== null && dots[order[place]][2] !== lit);
    show(order[place]);
  });

  const buttons = document.querySelectorAll(".legend button");
  for (const button of buttons) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const name = Number(button.dataset.layer);
      lit = lit === name ? null : name;
      for (const other of buttons) other.setAttribute("aria-pressed", String(lit === Number(other.dataset.layer)));
      for (const layer of drawing.querySelectorAll(".by-class .layer")) {
        layer.classList.toggle("is-faded", lit !== null && lit !== Number(layer.dataset.layer));
      }
      hide();
    });
  }
})();
