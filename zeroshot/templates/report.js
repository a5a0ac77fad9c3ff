document.documentElement.classList.add("js");
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => (isNaN(key(a)) ? key(b).localeCompare(key(a)) : key(b) - key(a)) * (falling ? 1 : -1);
      body.append(...[...body.rows].sort(order));
    });
  });
}
for (const browser of document.querySelectorAll(".browser")) {
  const cards = [...browser.querySelectorAll(".card")];
  const place = browser.querySelector("output");
  let current = 0;
  const show = (next) => {
    current = (next + cards.length) % cards.length;
    cards.forEach((card, number) => { card.hidden = number !== current; });
    place.textContent = `user ${current + 1} of ${cards.length}`;
  };
  browser.querySelector("[data-turn=back]").addEventListener("click", () => show(current - 1));
  browser.querySelector("[data-turn=on]").addEventListener("click", () => show(current + 1));
  show(0);
}
