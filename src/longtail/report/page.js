// Sorting and searching of the table of classes. Without this script the page lacks nothing but these two.
(() => {
  const table = document.getElementById("every-class");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headings = [...table.tHead.rows[0].cells];

  const value = (row, column, numeric) => {
    const text = row.cells[column].textContent.trim();
    return numeric ? parseFloat(text.replaceAll(",", "")) : text.toLowerCase();
  };

  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);

  const sort = (column) => {
    const heading = headings[column];
    const numeric = heading.classList.contains("number");
    const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
    const keyed = rows.map((row) => [value(row, column, numeric), row]);
    const missing = (key) => Number.isNaN(key) || key === "–";  // stays last, whichever way
    keyed.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  };

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(column));
    heading.append(button);
  });

  const tools = document.createElement("div");
  tools.className = "tools";
  const labelled = (text, control) => {
    const label = document.createElement("label");
    label.append(text, control);
    return label;
  };
  const search = Object.assign(document.createElement("input"), { type: "search", placeholder: "name" });
  const group = document.createElement("select");
  group.append(...["all", "many", "medium", "few"].map((name) => new Option(name, name)));
  const shown = document.createElement("output");

  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const fits = [0, 6].some((column) => row.cells[column].textContent.toLowerCase().includes(wanted));
      row.hidden = !(fits && (group.value === "all" || row.cells[1].textContent === group.value));
      count += !row.hidden;
    }
    shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} classes`;
  };
  search.addEventListener("input", filter);
  group.addEventListener("change", filter);
  filter();
  tools.append(labelled("Find", search), labelled("Group", group), shown);
  table.parentElement.before(tools);
})();
