// Sorting and searching of the table of classes. Without this script the page lacks nothing but these two.
(() => {
  const table = document.getElementById("every-class");
  const rows = [...table.tBodies[0].rows];
  sortable(table);

  const tools = document.createElement("div");
  tools.className = "tools";
  const search = Object.assign(document.createElement("input"), { type: "search", placeholder: "name" });
  const group = chooser(["all", "many", "medium", "few"]);
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
