// Tables that sort by a click on a heading, class tables with search and filters, and on the bench page the comparison
// of two rows. Without this script, a page lacks only these. Lines with "==" start the part of one kind of page.
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const labeled = (text, control) => make("label", {}, text, control);
const chooser = (names) => make("select", {}, ...names.map((name) => new Option(name, name)));
const searchField = (placeholder) => make("input", { type: "search", placeholder });
const GROUPS = ["many", "medium", "few"];

const sortable = (table, largestFirst = false) => {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, column, numeric) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.textContent).trim();
    return numeric ? parseFloat(text.replaceAll(",", "").replace("−", "-").replace("<0.0001", "0")) : text.toLowerCase();
  };
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
  // missing values stay last in both directions
  const missing = (key) => Number.isNaN(key) || key === "–";
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
    const button = make("button", { type: "button" }, ...heading.childNodes);
    button.addEventListener("click", () => sort(column));
    heading.append(button);
  });
};

// == run comparison
// A table of classes; data-search lists the columns that the search field covers.
const filterable = (table) => {
  sortable(table);
  const rows = [...table.tBodies[0].rows];
  const columns = table.dataset.search.split(" ");
  const search = searchField("name");
  const group = chooser(["all", ...GROUPS]);
  const kinds = { "all": null, "better": "gain", "worse": "loss", "more than chance": "clear" };
  const change = chooser(Object.keys(kinds));
  const shown = make("output");
  const filter = () => {
    const wanted = search.value.trim().toLowerCase();
    const kind = kinds[change.value];
    let count = 0;
    for (const row of rows) {
      const fits = columns.some((column) => row.cells[column].textContent.toLowerCase().includes(wanted))
        && (group.value === "all" || row.querySelector(`.${group.value}`)) && (!kind || row.classList.contains(kind));
      row.hidden = !fits;
      count += Boolean(fits);
    }
    shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} classes`;
  };
  [search, group, change].forEach((control) => control.addEventListener("input", filter));
  const changes = table.classList.contains("compared") ? [labeled("Change", change)] : [];
  filter();
  table.parentElement.before(
    make("div", { className: "tools" }, labeled("Find", search), labeled("Group", group), ...changes, shown));
};
document.querySelectorAll("table[data-search]").forEach(filterable);

// == bench
// The bench page: about holds the classes of a table and the accuracy of its rows on each.
const comparable = (table, about) => {
  if (about.rows.length < 2) return;
  const MOST = 400;
  const rows = [...table.tBodies[0].rows];
  const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(1)}`;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const rowChooser = () => make("select", {}, ...about.rows.map((row, index) => new Option(row.name, index)));
  const first = rowChooser();
  const second = rowChooser();
  second.value = about.reference;
  first.value = about.reference === 0 ? 1 : 0;
  const search = searchField("name");
  const group = chooser(["all", ...GROUPS]);
  const order = make("select", {}, new Option("most frequent first", "count"), new Option("largest gain", "gain"),
    new Option("largest loss", "loss"));
  const summary = make("p");
  const body = make("tbody");
  const heading = (text, number) => make("th", { className: number ? "number" : "" }, text);
  const firstHead = heading("", true);
  const secondHead = heading("", true);
  const head = make("tr", {}, heading("class"), heading("group"), heading("training images", true), firstHead,
    secondHead, heading("difference", true), heading(""));
  const number = (text) => make("td", { className: "number" }, text);

  const draw = () => {
    const [one, other] = [about.rows[first.value], about.rows[second.value]];
    firstHead.textContent = one.name;
    secondHead.textContent = other.name;
    const gains = one.accuracy.map((value, index) =>
      value === null || other.accuracy[index] === null ? null : value - other.accuracy[index]);
    const known = gains.map((gain, index) => index).filter((index) => gains[index] !== null);
    const better = known.filter((index) => gains[index] > 0).length;
    const worse = known.filter((index) => gains[index] < 0).length;
    const groups = GROUPS.map((name) => {
      const members = known.filter((index) => about.groups[index] === name).map((index) => gains[index]);
      return members.length ? `${name} ${signed(mean(members))}` : null;
    }).filter(Boolean);
    summary.textContent = `${one.name} is better on ${better} of ${known.length} classes and worse on ${worse}; `
      + `mean difference in points: ${groups.join(", ")}. Means over the seeds; the difference of a single class is often chance.`;
    const wanted = search.value.trim().toLowerCase();
    const fits = known.filter((index) => (group.value === "all" || about.groups[index] === group.value)
      && about.names[index].toLowerCase().includes(wanted));
    const keys = { count: (i) => -about.counts[i], gain: (i) => -gains[i], loss: (i) => gains[i] };
    fits.sort((a, b) => keys[order.value](a) - keys[order.value](b));
    body.replaceChildren(...fits.slice(0, MOST).map((index) => {
      const bar = make("span", { className: `bar ${gains[index] < 0 ? "loss" : "gain"}` });
      bar.style.width = `${Math.abs(gains[index]) / 2}%`;
      if (gains[index] < 0) bar.style.marginLeft = `${50 - Math.abs(gains[index]) / 2}%`;
      return make("tr", {}, make("th", { scope: "row" }, make("bdi", {}, about.names[index])),
        make("td", { className: about.groups[index] }, about.groups[index]),
        number(about.counts[index].toLocaleString("en")), number(one.accuracy[index].toFixed(1)),
        number(other.accuracy[index].toFixed(1)), number(signed(gains[index])), make("td", {}, bar));
    }));
    if (fits.length > MOST) summary.textContent += ` The first ${MOST} of ${fits.length} classes are shown.`;
    rows.forEach((row, index) => {
      row.classList.toggle("picked", index === Number(first.value));
      row.classList.toggle("second", index === Number(second.value));
    });
  };
  [first, second, search, group, order].forEach((control) => control.addEventListener("input", draw));
  table.closest("section").querySelector(".compare").append(
    make("div", { className: "tools" }, labeled("Class by class", first), labeled("against", second),
      labeled("Find", search), labeled("Group", group), labeled("Order", order)),
    summary, make("div", { className: "classes scroll" }, make("table", {}, make("thead", {}, head), body)));
  draw();
};

const findRows = (tables) => {
  const filter = searchField("method");
  const shown = make("output");
  const update = () => {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
    rows.forEach((row) => {
      const name = row.cells[0].textContent.toLowerCase();
      row.hidden = !wanted.some((word) => name.includes(word));
    });
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  filter.addEventListener("input", update);
  document.querySelector("main").before(make("div", { className: "tools" }, labeled("Find rows", filter), shown));
  update();
};

const benches = [...document.querySelectorAll("table.bench")];
const data = JSON.parse(document.getElementById("data").textContent);
benches.forEach((table, index) => {
  comparable(table, data[index]);
  sortable(table, true);
});
findRows(benches);
