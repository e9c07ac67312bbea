// Menus behind buttons, for mouse, touch and keyboard (WAI-ARIA's menu button pattern).

function close(button, menu) {
  menu.hidden = true;
  button.setAttribute("aria-expanded", "false");
}

/** Makes `button` open the element that its aria-controls names. */
export function attachMenu(button) {
  const menu = document.getElementById(button.getAttribute("aria-controls"));
  const items = () => [...menu.querySelectorAll('[role="menuitem"]:enabled')];
  const open = () => {
    menu.hidden = false;
    button.setAttribute("aria-expanded", "true");
    // Not out of the window on a phone.
    menu.style.right = "0";
    const { left } = menu.getBoundingClientRect();
    if (left < 4) menu.style.right = `${left - 4}px`;
    items()[0]?.focus();
  };
  button.addEventListener("click", () => (menu.hidden ? open() : close(button, menu)));
  menu.addEventListener("click", () => close(button, menu));
  menu.addEventListener("keydown", (event) => {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (next !== undefined) {
      event.preventDefault();
      all.at(next % all.length).focus();
    } else if (event.key === "Escape" || event.key === "Tab") {
      close(button, menu);
      button.focus();
    }
  });
  document.addEventListener("pointerdown", (event) => {
    if (!button.parentElement.contains(event.target)) close(button, menu);
  });
}
