"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const key = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
    const numeric = head.classList.contains("n");
    const unknown = (text) => text === "" || text === "–";
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (unknown(x) || unknown(y)) return unknown(x) - unknown(y);
      const order = numeric ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
      return up ? order : -order;
    });
    body.append(...rows);
  });
}
