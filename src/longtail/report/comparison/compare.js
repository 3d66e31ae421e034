// Sorting and searching of the tables of classes. Without this script the page lacks nothing but these two.
(() => {
  const setUp = (table) => {
    const rows = [...table.tBodies[0].rows];
    sortable(table);

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
