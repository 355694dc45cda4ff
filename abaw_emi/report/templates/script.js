(() => {
  "use strict";
  // The theme: what the system prefers, unless the reader chose.
  const root = document.documentElement;
  const themes = document.querySelector(".themes");
  const choose = (choice) => {
    if (choice === "auto") delete root.dataset.theme;
    else root.dataset.theme = choice;
    for (const button of themes.children) {
      button.setAttribute("aria-pressed", String(button.dataset.choice === choice));
    }
  };
  let kept = "auto";
  try { kept = localStorage.getItem("abaw-emi-theme") || "auto"; } catch { /* no storage for files */ }
  choose(kept);
  themes.hidden = false;
  themes.addEventListener("click", (event) => {
    const choice = event.target.dataset.choice;
    if (!choice) return;
    choose(choice);
    try { localStorage.setItem("abaw-emi-theme", choice); } catch { /* it lasts as long as the page */ }
  });

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    const value = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(value);
    return value !== "" && !Number.isNaN(number) ? number : value;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });

  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if ("plain" in head.dataset) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const first = head.classList.contains("number") ? "descending" : "ascending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        for (const each of heads) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows];
        const empty = (row) => valueOf(row, column) === "";
        rows.sort((a, b) => empty(a) - empty(b) || sign * compare(valueOf(a, column), valueOf(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const filter of document.querySelectorAll(".filter")) {
    const rows = [...filter.parentElement.querySelectorAll("tbody tr")];
    const output = filter.querySelector("output");
    filter.hidden = false;
    filter.querySelector("input").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      output.textContent = words.length ? `${shown} of ${rows.length}` : "";
    });
  }

  // A figure as an SVG file, as it is shown: its panels in their places, in the colours of the theme.
  const name = "http://www.w3.org/2000/svg";
  const drawFigure = (figure) => {
    const frame = figure.querySelector(".panels").getBoundingClientRect();
    const whole = document.createElementNS(name, "svg");
    const place = (element, box) => {
      for (const key of ["x", "y", "width", "height"]) element.setAttribute(key, box[key].toFixed(2));
      whole.append(element);
    };
    whole.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
    whole.setAttribute("font-family", "sans-serif");
    const ground = document.createElementNS(name, "rect");
    ground.setAttribute("style", "fill: var(--paper)");
    place(ground, { x: 0, y: 0, width: frame.width, height: frame.height });
    for (const panel of figure.querySelectorAll(".panel")) {
      const box = panel.getBoundingClientRect();
      place(panel.cloneNode(true), { x: box.x - frame.x, y: box.y - frame.y, width: box.width, height: box.height });
    }
    const theme = getComputedStyle(root);
    return new XMLSerializer().serializeToString(whole)
      .replace(/var\((--[\w-]+)\)/g, (_, variable) => theme.getPropertyValue(variable).trim());
  };
  for (const figure of document.querySelectorAll("figure")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "SVG";
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([drawFigure(figure)], { type: "image/svg+xml" }));
      link.download = `${figure.id}.svg`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
    figure.querySelector(".after").prepend(button);
  }
})();
