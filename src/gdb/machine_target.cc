#include "gdb/machine_target.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "base/log.h"

namespace limen::gdb {
namespace {

/// The part of [address, address + size) that lies in its page.
size_t in_page(uint64_t address, size_t size) {
  return std::min<size_t>(size, memory::kPageSize - address % memory::kPageSize);
}

/// Devices take 1, 2, 4 or 8 bytes at a time, at an address that is a multiple.
unsigned device_access(uint64_t address, size_t size) {
  unsigned access = 8;
  while (access > size || address % access != 0) access /= 2;
  return access;
}

}  // namespace

RegisterFile MachineTarget::registers(unsigned processor) {
  return {.cpu = machine_.vcpu(processor).state(),
          .cr8 = machine_.board()->interrupts().local(processor).task_priority()};
}

void MachineTarget::set_registers(unsigned processor, const RegisterFile& file) {
  machine_.vcpu(processor).set_state(file.cpu);
  machine_.board()->interrupts().local(processor).set_task_priority(
      static_cast<uint8_t>(file.cr8 & 0xF));
}

bool MachineTarget::halted(unsigned processor) {
  const x86::ActivityState activity = machine_.vcpu(processor).state().activity;
  return activity.halted || activity.wait_for_sipi;
}

size_t MachineTarget::read_memory(unsigned processor, uint64_t address, bool physical,
                                  std::span<std::byte> into) {
  size_t done = 0;
  while (done < into.size()) {
    const uint64_t at = address + done;
    const size_t size = in_page(at, into.size() - done);
    const auto place = physical ? std::optional(GuestPhysicalAddress{at})
                                : machine_.vcpu(processor).translate({at});
    if (!place) break;
    const auto part = into.subspan(done, size);
    if (!machine_.memory()->read(*place, part)) {
      for (size_t i = 0; i < size;) {
        const unsigned access = device_access(place->value + i, size - i);
        const uint64_t value = machine_.board()->mmio().read(place->value + i, access);
        std::memcpy(part.data() + i, &value, access);
        i += access;
      }
    }
    done += size;
  }
  return done;
}

bool MachineTarget::write_memory(unsigned processor, uint64_t address, bool physical,
                                 std::span<const std::byte> from) {
  size_t done = 0;
  while (done < from.size()) {
    const uint64_t at = address + done;
    const size_t size = in_page(at, from.size() - done);
    const auto place = physical ? std::optional(GuestPhysicalAddress{at})
                                : machine_.vcpu(processor).translate({at});
    if (!place) return false;
    const auto part = from.subspan(done, size);
    if (machine_.memory()->write(*place, part)) {
      machine_.memory()->note_written(*place, size);
    } else {
      for (size_t i = 0; i < size;) {
        const unsigned access = device_access(place->value + i, size - i);
        uint64_t value = 0;
        std::memcpy(&value, part.data() + i, access);
        machine_.board()->mmio().write(place->value + i, access, value);
        i += access;
      }
    }
    done += size;
  }
  return true;
}

Result<> MachineTarget::resume(std::span<const Action> actions, const Stops& stops,
                               bool hold_interrupts) {
  std::vector<unsigned> going;
  for (unsigned i = 0; i < actions.size(); ++i) {
    LIMEN_TRY(machine_.vcpu(i).set_debug({.single_step = actions[i] == Action::kStep,
                                          .hold_interrupts = hold_interrupts,
                                          .breakpoints = stops.breakpoints,
                                          .hardware_breakpoints = stops.hardware_breakpoints,
                                          .watchpoints = stops.watchpoints}));
    if (actions[i] != Action::kStand) going.push_back(i);
  }
  return machine_.cont_some(going);
}

void MachineTarget::forget_stops() {
  for (unsigned i = 0; i < machine_.vcpu_count(); ++i)
    if (const auto forgotten = machine_.vcpu(i).set_debug({}); !forgotten)
      log::warning("vcpu {}: {}", i, forgotten.error().message);
}

void MachineTarget::let_go() {
  forget_stops();
  if (const auto goes_on = machine_.cont(); !goes_on)
    log::info("the guest stands still: {}", goes_on.error().message);
}

}  // namespace limen::gdb
