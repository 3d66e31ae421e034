// What the scripts of all pages share: tables that sort by a click on a heading, and controls with a label.
const labelled = (text, control) => {
  const label = document.createElement("label");
  label.append(text, control);
  return label;
};

const chooser = (names) => {
  const control = document.createElement("select");
  control.append(...names.map((name) => new Option(name, name)));
  return control;
};

const sortable = (table, largestFirst = false) => {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];

  const value = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    return numeric ? parseFloat(text.replaceAll(",", "").replace("−", "-").replace("<0.0001", "0")) : text.toLowerCase();
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  const missing = (key) => Number.isNaN(key) || key === "–";  // stays last, whichever way

  const sort = (column) => {
    const heading = headings[column];
    const numeric = heading.classList.contains("number");
    const before = heading.getAttribute("aria-sort");
    const rising = before ? before === "descending" : !(numeric && largestFirst);
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const keyed = [...body.rows].map((row) => [value(row, column, numeric), row]);
    keyed.sort(([a], [b]) => missing(a) - missing(b) || (missing(a) ? 0 : (rising ? 1 : -1) * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
  };

  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    button.addEventListener("click", () => sort(column));
    heading.append(button);
  });
};

