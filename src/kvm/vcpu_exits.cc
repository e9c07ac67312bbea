// Why KVM_RUN came back, and what follows from it.
#include <array>
#include <bit>
#include <cstring>

#include "base/log.h"
#include "kvm/exit_name.h"
#include "kvm/ioctl.h"
#include "kvm/vcpu.h"

namespace limen::kvm {
namespace {

using vcpu::Exit;
using vcpu::ExitReason;

bool is_natural(size_t size) { return size <= 8 && std::has_single_bit(size); }

uint64_t load(const uint8_t* from, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, from, size);
  return value;
}

}  // namespace

std::optional<Exit> Vcpu::handle_exit() {
  ++exits_[std::min<size_t>(run_->exit_reason, exits_.size() - 1)];
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      port_access();
      return std::nullopt;
    case KVM_EXIT_MMIO:
      memory_access();
      return std::nullopt;
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
      return std::nullopt;
    case KVM_EXIT_DIRTY_RING_FULL:
      vm_.slots->empty_rings();
      return std::nullopt;
    case KVM_EXIT_IOAPIC_EOI:
      interrupts_.end_of_interrupt(run_->eoi.vector);
      return std::nullopt;
    case KVM_EXIT_HLT:
      halted_ = true;
      return std::nullopt;
    case KVM_EXIT_SHUTDOWN:
      return Exit{ExitReason::kShutdown, "triple fault", {}};
    case KVM_EXIT_SYSTEM_EVENT:
      return Exit{ExitReason::kShutdown,
                  fmt::format("the kernel reports system event {}", run_->system_event.type),
                  {}};
    case KVM_EXIT_DEBUG:
      return debug_exit();
    case KVM_EXIT_FAIL_ENTRY:
      return failure(fmt::format(
          "the processor refused to enter the guest, for hardware reason {:#x} "
          "(a state that it does not allow, or a fault of the hypervisor above this host)",
          run_->fail_entry.hardware_entry_failure_reason));
    case KVM_EXIT_INTERNAL_ERROR: {
      // A back end that emulates may not know INT3.
      if (!int3_.empty() && run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION) {
        const auto now = state();
        const uint64_t at = now.system.segments[x86::kCs].base + now.rip;
        if (place_of(at) && passing_ != at) return breakpoint_exit(at);
      }
      std::string what =
          fmt::format("the kernel's hypervisor gave up (KVM_EXIT_INTERNAL_ERROR, suberror {}",
                      run_->internal.suberror);
      for (uint32_t i = 0; i < std::min<uint32_t>(run_->internal.ndata, 4); ++i)
        what += fmt::format(", {:#x}", run_->internal.data[i]);
      what += ")";
      if (run_->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
        what +=
            ": it had to emulate an instruction and cannot; -accel soft runs any, and `limen host` "
            "says what this host's /dev/kvm is";
      return failure(std::move(what));
    }
    default:
      return failure(
          fmt::format("the kernel's hypervisor came back with {}, which was not asked for",
                      exit_name(run_->exit_reason)));
  }
}

void Vcpu::port_access() {
  const auto& io = run_->io;
  uint8_t* data = reinterpret_cast<uint8_t*>(run_) + io.data_offset;
  for (uint32_t i = 0; i < io.count; ++i, data += io.size) {
    if (io.direction == KVM_EXIT_IO_OUT) {
      vm_.resources.ports.write(io.port, io.size, load(data, io.size));
    } else {
      const uint64_t value = vm_.resources.ports.read(io.port, io.size);
      std::memcpy(data, &value, io.size);
    }
  }
}

void Vcpu::memory_access() {
  auto& mmio = run_->mmio;
  const std::span<uint8_t> data(mmio.data, mmio.len);
  // Only a change of the slots since it entered can have taken memory away.
  if ((slot_changes_ % 2 != 0 || vm_.slots->changes() != slot_changes_) &&
      vm_.slots->access({mmio.phys_addr}, std::as_writable_bytes(data), mmio.is_write != 0))
    return;
  // An access that crosses pages may come in pieces of any size.
  const size_t step = is_natural(data.size()) ? data.size() : 1;
  for (size_t at = 0; at < data.size(); at += step) {
    const uint64_t address = mmio.phys_addr + at;
    if (mmio.is_write != 0) {
      vm_.resources.mmio.write(address, static_cast<unsigned>(step), load(&data[at], step));
    } else {
      const uint64_t value = vm_.resources.mmio.read(address, static_cast<unsigned>(step));
      std::memcpy(&data[at], &value, step);
    }
  }
}

Exit Vcpu::failure(std::string what) {
  return {ExitReason::kInternalError, std::move(what) + code_bytes(), {}};
}

std::string Vcpu::code_bytes() const {
  const auto now = state();
  const uint64_t linear = now.system.segments[x86::kCs].base + now.rip;
  std::string text = fmt::format("\ncode at {:#x}:", linear);
  constexpr uint64_t kLongest = 15;
  for (uint64_t i = 0; i < kLongest; ++i) {
    const auto physical = translate({linear + i});
    std::array<std::byte, 1> byte{};
    if (!physical || !vm_.resources.ram.read(*physical, byte)) return text + " (not in memory)";
    text += fmt::format(" {:02x}", static_cast<unsigned>(byte[0]));
  }
  return text;
}

}  // namespace limen::kvm
