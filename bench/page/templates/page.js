"use strict";
// Sorts and filters what is on the page already, and shows all rows, fifty at a time: the page is whole without it.
(() => {
  const PER_PAGE = 50;
  const byId = (id) => document.getElementById(id);

  // Missing values last, whichever way; numbers as numbers, all else as texts with the numbers in them in order.
  const compareKeys = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    const difference = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
    return sign * difference;
  };

  const makeSortable = (head, sort) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      sort(sign);
    });
  };

  const keyOf = (cell) => {
    if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
    const text = cell.textContent.trim();
    if (text === "" || text === "–") return null;
    const number = Number(text.replaceAll(",", ""));
    return Number.isNaN(number) ? text : number;
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      makeSortable(head, (sign) => {
        const keyed = [...body.rows].map((row) => [keyOf(row.cells[column]), row]);
        keyed.sort((a, b) => compareKeys(a[0], b[0], sign));
        body.append(...keyed.map((pair) => pair[1]));
      });
    });
  }

  // --- which tables and which of their rows ------------------------------------------------------------------------

  const track = byId("track"), dataset = byId("dataset"), filter = byId("filter"), ofDatasets = byId("of-datasets");
  const boards = [...document.querySelectorAll("#tables .board")];
  const choose = () => {
    const words = filter.value.trim().toLowerCase();
    for (const board of document.querySelectorAll(".board")) {
      const isErrors = board.closest("#errors") !== null;
      const wanted = isErrors ? "" : dataset.value;
      board.hidden = (track.value !== "" && board.dataset.track !== track.value)
        || (wanted !== "" && board.dataset.dataset !== wanted);
    }
    if (ofDatasets !== null && dataset.value !== "") ofDatasets.open = true;
    for (const row of document.querySelectorAll("tr[data-name]")) row.hidden = !row.dataset.name.toLowerCase().includes(words);
    byId("nothing").hidden = boards.some((board) => !board.hidden && board.querySelector("tr[data-name]:not([hidden])") !== null);
  };
  for (const control of [track, dataset, filter]) control.addEventListener("input", choose);

  // --- all rows ----------------------------------------------------------------------------------------------------

  const data = JSON.parse(byId("data").textContent);
  const valueAt = (column, row) => (column.values === undefined ? column.texts[column.codes[row]] : column.values[row]);
  const head = document.createElement("tr");
  let rows = Array.from({ length: data.n }, (_, row) => row), order = rows, page = 0;

  data.columns.forEach((column) => {
    const cell = document.createElement("th");
    cell.scope = "col";
    cell.textContent = column.head;
    if (column.values === undefined) cell.className = "left";
    makeSortable(cell, (sign) => {
      order = [...order].sort((a, b) => compareKeys(valueAt(column, a), valueAt(column, b), sign));
      search();
    });
    head.append(cell);
  });
  byId("cells").tHead.append(head);

  const draw = () => {
    const first = page * PER_PAGE, shown = rows.slice(first, first + PER_PAGE);
    const lines = shown.map((row) => {
      const line = document.createElement("tr");
      for (const column of data.columns) {
        const cell = document.createElement("td"), value = valueAt(column, row);
        cell.textContent = value === null ? "–" : column.head === "cell" ? value.slice(0, 10) : value;
        if (column.values === undefined) cell.className = column.head === "reason" && value ? "left long" : "left";
        line.append(cell);
      }
      return line;
    });
    byId("cells").tBodies[0].replaceChildren(...lines);
    byId("found").textContent = rows.length ? `${first + 1} to ${first + shown.length} of ${rows.length} rows` : "no rows";
    byId("previous").disabled = page === 0;
    byId("next").disabled = first + PER_PAGE >= rows.length;
  };

  const texts = data.columns.filter((column) => column.texts !== undefined)
    .map((column) => ({ ...column, lower: column.texts.map((text) => text.toLowerCase()) }));
  const search = () => {
    const words = byId("search").value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    // Of each column the texts with the word, once; then a row has the word where one of its codes is among them.
    const wanted = words.map((word) => texts.map((column) => column.lower.map((text) => text.includes(word))));
    rows = order.filter((row) => wanted.every((hits) => hits.some((hit, c) => hit[texts[c].codes[row]])));
    page = 0;
    draw();
  };
  byId("search").addEventListener("input", search);
  byId("previous").addEventListener("click", () => { page -= 1; draw(); });
  byId("next").addEventListener("click", () => { page += 1; draw(); });

  for (const part of document.querySelectorAll(".controls, #explorer")) part.hidden = false;
  draw();
})();
