// The consoles of the machine, one to be seen at a time (WAI-ARIA's tabs pattern).

export class Tabs {
  constructor(list, panels) {
    this.list = list;
    this.panels = panels;
    this.entries = new Map();
    this.current = null;
    list.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step === undefined) return;
      const ids = [...this.entries.keys()];
      const next = ids.at((ids.indexOf(this.current) + step) % ids.length);
      this.show(next);
      this.entries.get(next).tab.focus();
    });
  }

  /** `make` gets the panel's element and returns what fills it. */
  add(id, title, make) {
    if (this.entries.has(id)) return;
    const tab = document.createElement("button");
    tab.type = "button";
    tab.role = "tab";
    tab.id = `tab-${id}`;
    tab.textContent = title;
    tab.setAttribute("aria-controls", `panel-${id}`);
    const panel = document.createElement("section");
    panel.id = `panel-${id}`;
    panel.className = "panel";
    panel.role = "tabpanel";
    panel.setAttribute("aria-labelledby", tab.id);
    this.list.append(tab);
    this.panels.append(panel);
    const entry = { tab, panel, content: null };
    this.entries.set(id, entry);
    entry.content = make(panel);
    tab.addEventListener("click", () => {
      this.show(id);
      entry.content.focus();
    });
    if (this.current === null) this.show(id);
    else this.update();
  }

  /** Without those that `keep` says no to. */
  retain(keep) {
    for (const [id, entry] of this.entries) {
      if (keep(id)) continue;
      entry.content.stop();
      entry.tab.remove();
      entry.panel.remove();
      this.entries.delete(id);
    }
    if (this.entries.has(this.current)) return;
    this.current = null;
    const [first] = this.entries.keys();
    if (first !== undefined) this.show(first);
  }

  show(id) {
    this.current = id;
    this.update();
    this.active.shown();
  }

  update() {
    for (const [id, { tab, panel }] of this.entries) {
      tab.setAttribute("aria-selected", String(id === this.current));
      tab.tabIndex = id === this.current ? 0 : -1;
      panel.hidden = id !== this.current;
    }
    this.list.dispatchEvent(new Event("change"));
  }

  get active() {
    return this.entries.get(this.current)?.content ?? null;
  }
}
