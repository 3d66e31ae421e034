// Sorting and searching of the tables of classes. Without this script the page lacks nothing but these two.
(() => {
  const setUp = (table) => {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const headings = [...table.tHead.rows[0].cells];

    const value = (row, column, numeric) => {
      const text = row.cells[column].textContent.trim();
      return numeric ? parseFloat(text.replaceAll(",", "").replace("−", "-").replace("<0.0001", "0")) : text.toLowerCase();
    };
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    const missing = (key) => Number.isNaN(key) || key === "–";  // stays last, whichever way

    const sort = (column) => {
      const heading = headings[column];
      const numeric = heading.classList.contains("number");
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
      const keyed = rows.map((row) => [value(row, column, numeric), row]);
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
    const search = Object.assign(document.createElement("input"), { type: "search", placeholder: "name" });
    const group = chooser(["all", "many", "medium", "few"]);
    const change = chooser(["all", "better", "worse", "more than chance"]);
    const shown = document.createElement("output");

    const changed = (row) => ({
      "all": true,
      "better": row.classList.contains("gain"),
      "worse": row.classList.contains("loss"),
      "more than chance": row.classList.contains("clear"),
    })[change.value];

    const filter = () => {
      const wanted = search.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        const named = [0, 8, 9, 10].some((column) => row.cells[column].textContent.toLowerCase().includes(wanted));
        row.hidden = !(named && changed(row) && (group.value === "all" || row.cells[0].className === group.value));
        count += !row.hidden;
      }
      shown.textContent = `${count.toLocaleString("en")} of ${rows.length.toLocaleString("en")} classes`;
    };
    search.addEventListener("input", filter);
    group.addEventListener("change", filter);
    change.addEventListener("change", filter);
    filter();

    const tools = document.createElement("div");
    tools.className = "tools";
    tools.append(labelled("Find", search), labelled("Group", group), labelled("Change", change), shown);
    table.parentElement.before(tools);
  };
  document.querySelectorAll("table.compared").forEach(setUp);
})();
