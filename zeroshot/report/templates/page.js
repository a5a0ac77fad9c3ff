document.documentElement.classList.add("js");
const unfold = () => {
  // A link into a folded part opens it.
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  if (target && target.matches("details")) target.open = true;
};
addEventListener("hashchange", unfold);
unfold();
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const body = table.tBodies[0];
      // A missing value ("") stays at the end whichever way the rest is sorted.
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const one = key(a), other = key(b);
        if (one === "" || other === "") return (one === "") - (other === "");
        return (isNaN(one) || isNaN(other) ? other.localeCompare(one) : other - one) * (falling ? 1 : -1);
      };
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
