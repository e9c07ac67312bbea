// The status line.

const UNITS = ["B", "kB", "MB", "GB"];

/** "1.5 MB/s" of bytes in a second. */
export function rateText(bytes) {
  let unit = 0;
  let value = bytes;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit]}/s`;
}

/** "512 MiB", "1.5 GiB". */
export function sizeText(bytes) {
  const mebibytes = bytes / 2 ** 20;
  if (mebibytes < 1024) return `${Math.round(mebibytes)} MiB`;
  return `${Number((mebibytes / 1024).toFixed(1))} GiB`;
}

const element = (id) => document.getElementById(id);

export function showState(state) {
  const pill = element("state");
  pill.textContent = state.replaceAll("-", " ");
  pill.dataset.state = state;
}

export function showMachine(machine) {
  const name = machine.name || "Limen";
  element("name").textContent = name;
  document.title = machine.name ? `${machine.name} – Limen` : "Limen";
  element("what").textContent =
    `${machine.accelerator} · ${machine.board} · ${machine.vcpus} vCPU${machine.vcpus === 1 ? "" : "s"}` +
    ` · ${sizeText(machine.memory)}`;
}

export function showStatus(status) {
  showState(status.state);
  element("load").value = status.load;
  element("load-text").textContent = `${status.load} %`;
  element("disk").textContent =
    `↓ ${rateText(status["disk-read"])}  ↑ ${rateText(status["disk-written"])}`;
  element("network").textContent =
    `↓ ${rateText(status["network-received"])}  ↑ ${rateText(status["network-sent"])}`;
}
