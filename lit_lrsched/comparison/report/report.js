"use strict";
// Without this the page says all the same: it sorts the table, tells values under the pointer, and copies the methods.
// The page is read as XML too, so there are no "less than" signs and no ampersands here.

// Of "0.914", "+0.002 to 0.01", "1,200" or "under 0.001"; a dash is no number.
const number = (cell) => parseFloat(cell.textContent.replace(/,/g, "").replace(/^[^\d.+-]+/, ""));

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.querySelectorAll("th[data-column]")];
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const column = Number(head.dataset.column);
      const order = (a, b) => {
        const cells = (up ? [a, b] : [b, a]).map((row) => row.cells[column]);
        if (column === 0) return cells[0].textContent.localeCompare(cells[1].textContent);
        return number(cells[0]) - number(cells[1]);
      };
      const rows = [...table.tBodies[0].rows];
      const isMissing = (row) => column > 0 ? Number.isNaN(number(row.cells[column])) : false;
      const known = rows.filter((row) => !isMissing(row)).sort(order);
      table.tBodies[0].append(...known, ...rows.filter(isMissing));
    });
  }
}

for (const card of document.querySelectorAll(".card[data-curves]")) {
  const drawing = card.querySelector("svg");
  const readout = card.querySelector(".readout");
  const curves = JSON.parse(card.dataset.curves);
  const last = curves.at.length - 1;
  const said = readout.textContent;
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  line.setAttribute("class", "s-cursor");
  let shown = last;
  const show = (place) => {
    shown = Math.max(0, Math.min(last, place));
    readout.textContent = curves.words[shown];
    const x = (Number(card.dataset.width) * curves.at[shown]) / curves.at[last];
    for (const [name, value] of Object.entries({ x1: x, x2: x, y1: 0, y2: card.dataset.height })) {
      line.setAttribute(name, value);
    }
    drawing.append(line);
  };
  const hide = () => {
    readout.textContent = said;
    line.remove();
  };
  drawing.addEventListener("pointermove", (event) => {
    const inside = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    const epoch = (curves.at[last] * inside.x) / Number(card.dataset.width);
    const far = curves.at.map((at) => Math.abs(at - epoch));
    show(far.indexOf(Math.min(...far)));
  });
  drawing.addEventListener("pointerleave", hide);
  drawing.tabIndex = 0;
  drawing.addEventListener("focus", () => show(last));
  drawing.addEventListener("blur", hide);
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      show(shown + step);
    }
  });
}

for (const text of document.querySelectorAll(".copyable")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => {
    const range = document.createRange();
    range.selectNodeContents(text);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    // A page from a file may not be let at the clipboard in the new way.
    button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
  });
  text.after(button);
}
