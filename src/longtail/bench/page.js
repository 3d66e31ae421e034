// Find and sort rows, and compare two of them class by class. Without this script the tables still stand.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const MOST = 400;  // classes shown at once
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(1)}`;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  const comparison = (section, table, about) => {
    const place = section.querySelector(".compare");
    if (about.rows.length < 2) return;
    const options = () => about.rows.map((row, index) => new Option(row.name, index));
    const first = make("select", {}, ...options());
    const second = make("select", {}, ...options());
    second.value = about.reference;
    first.value = about.reference === 0 ? 1 : 0;
    const search = make("input", { type: "search", placeholder: "name" });
    const group = chooser(["all", "many", "medium", "few"]);
    const order = make("select", {}, new Option("fullest first", "count"), new Option("biggest gain", "gain"),
      new Option("biggest loss", "loss"));
    const said = make("p");
    const body = make("tbody");
    const heading = (text, number) => make("th", { className: number ? "number" : "" }, text);
    const firstHead = heading("", true);
    const secondHead = heading("", true);
    const head = make("tr", {}, heading("class"), heading("group"), heading("training images", true), firstHead,
      secondHead, heading("difference", true), heading(""));

    const draw = () => {
      const [one, other] = [about.rows[first.value], about.rows[second.value]];
      firstHead.textContent = one.name;
      secondHead.textContent = other.name;
      const gains = one.accuracy.map((value, index) =>
        value === null || other.accuracy[index] === null ? null : value - other.accuracy[index]);
      const known = gains.map((gain, index) => index).filter((index) => gains[index] !== null);
      const better = known.filter((index) => gains[index] > 0).length;
      const worse = known.filter((index) => gains[index] < 0).length;
      const groups = ["many", "medium", "few"].map((name) => {
        const members = known.filter((index) => about.groups[index] === name).map((index) => gains[index]);
        return members.length ? `${name} ${signed(mean(members))}` : null;
      }).filter(Boolean);
      said.textContent = `${one.name} is better on ${better} of ${known.length} classes and worse on ${worse}; `
        + `points on average: ${groups.join(", ")}. Means over the seeds; a single class says little.`;
      const wanted = search.value.trim().toLowerCase();
      const fits = known.filter((index) => (group.value === "all" || about.groups[index] === group.value)
        && about.names[index].toLowerCase().includes(wanted));
      const keys = { count: (i) => -about.counts[i], gain: (i) => -gains[i], loss: (i) => gains[i] };
      fits.sort((a, b) => keys[order.value](a) - keys[order.value](b));
      body.replaceChildren(...fits.slice(0, MOST).map((index) => {
        const bar = make("span", { className: `bar ${gains[index] < 0 ? "loss" : "gain"}` });
        bar.style.width = `${Math.abs(gains[index]) / 2}%`;
        if (gains[index] < 0) bar.style.marginLeft = `${50 - Math.abs(gains[index]) / 2}%`;
        const number = (text) => make("td", { className: "number" }, text);
        return make("tr", {}, make("th", { scope: "row" }, make("bdi", {}, about.names[index])),
          make("td", { className: about.groups[index] }, about.groups[index]),
          number(about.counts[index].toLocaleString("en")), number(one.accuracy[index].toFixed(1)),
          number(other.accuracy[index].toFixed(1)), number(signed(gains[index])), make("td", {}, bar));
      }));
      if (fits.length > MOST) said.textContent += ` The first ${MOST} of ${fits.length} classes are shown.`;
      for (const row of table.tBodies[0].rows) {
        row.classList.toggle("picked", row.dataset.row === first.value);
        row.classList.toggle("second", row.dataset.row === second.value);
      }
    };
    const tools = make("div", { className: "tools" }, labelled("Class by class", first), labelled("against", second),
      labelled("Find", search), labelled("Group", group), labelled("Order", order));
    [first, second, search, group, order].forEach((control) => control.addEventListener("input", draw));
    place.append(tools, said, make("div", { className: "classes" },
      make("table", {}, make("thead", {}, head), body)));
    draw();
  };

  const filter = make("input", { type: "search", placeholder: "method" });
  const shown = make("output");
  const tables = [...document.querySelectorAll("table.bench")];
  const sieve = () => {
    const wanted = filter.value.trim().toLowerCase().split(/\s+/);
    const rows = tables.flatMap((table) => [...table.tBodies[0].rows]);
    for (const row of rows) {
      const name = row.cells[0].textContent.toLowerCase();
      row.hidden = !wanted.some((word) => name.includes(word));
    }
    shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  filter.addEventListener("input", sieve);
  document.querySelector("main").before(make("div", { className: "tools" }, labelled("Find rows", filter), shown));
  tables.forEach((table) => {
    sortable(table, true);
    comparison(table.closest("section"), table, data[table.dataset.table]);
  });
  sieve();
})();
