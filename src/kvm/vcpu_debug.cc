// Breakpoints, watchpoints and single steps, with the processor's debug registers (SDM Vol.
// 3B 17.2), and INT3 for what they have no room for.
#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <ranges>
#include <utility>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "kvm/state/registers.h"
#include "kvm/vcpu.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

constexpr size_t kDebugAddresses = 4;
constexpr uint32_t kDebugVector = 1, kBreakpointVector = 3;

/// DR7's fields for one address: enabled globally, its kind and its length.
uint64_t enable(size_t number, uint64_t kind, uint64_t length) {
  return uint64_t{2} << (2 * number) | (kind | length << 2) << (16 + 4 * number);
}

/// What debug registers can watch: 1, 2, 4 or 8 aligned bytes, written or accessed.
Result<std::pair<uint64_t, uint64_t>> kind_and_length(const vcpu::Watchpoint& watch) {
  if (watch.kind == vcpu::WatchKind::kRead)
    return fail("kvm cannot watch reads alone; watch accesses");
  if (watch.size > 8 || !std::has_single_bit(watch.size) || watch.address % watch.size != 0)
    return fail("kvm can watch 1, 2, 4 or 8 aligned bytes, not {} at {:#x}", watch.size,
                watch.address);
  constexpr std::array<uint64_t, 4> kLengths = {0, 1, 3, 2};
  return std::pair{watch.kind == vcpu::WatchKind::kWrite ? uint64_t{1} : uint64_t{3},
                   kLengths[static_cast<size_t>(std::countr_zero(watch.size))]};
}

}  // namespace

Result<> Vcpu::set_debug(const vcpu::DebugRequest& request) {
  std::vector<uint64_t> addresses = request.hardware_breakpoints;
  const size_t needed = addresses.size() + request.watchpoints.size();
  if (needed > kDebugAddresses)
    return fail("{} hardware breakpoints and watchpoints are too many; with kvm a processor has {}",
                needed, kDebugAddresses);
  // The others have what registers are left, those first that are nowhere in memory now; and
  // memory.
  std::vector<uint64_t> others = request.breakpoints;
  std::erase_if(others, [&](uint64_t address) {
    return std::ranges::find(addresses, address) != addresses.end();
  });
  std::ranges::stable_partition(
      others, [&](uint64_t address) { return !translate({address}).has_value(); });
  const size_t in_registers = std::min(others.size(), kDebugAddresses - needed);
  addresses.insert(addresses.end(), others.begin(),
                   others.begin() + static_cast<ptrdiff_t>(in_registers));
  std::vector<Int3> int3;
  for (const uint64_t address : others | std::views::drop(in_registers)) {
    const auto place = translate({address});
    if (!place)
      return fail(
          "a breakpoint at {:#x}: no memory is there now, and with kvm a processor has only {} "
          "that need none",
          address, kDebugAddresses);
    if (vm_.resources.ram.span(*place, 1).empty())
      return fail(
          "a breakpoint at {:#x}: it is in memory that cannot be written, and registers have {}",
          address, kDebugAddresses);
    int3.push_back({.linear = address, .place = *place});
  }

  kvm_guest_debug debug{};
  size_t number = 0;
  for (const uint64_t address : addresses) {
    debug.arch.debugreg[number] = address;
    debug.arch.debugreg[7] |= enable(number++, 0, 0);
  }
  for (const auto& watch : request.watchpoints) {
    const auto [kind, length] = LIMEN_TRY(kind_and_length(watch));
    debug.arch.debugreg[number] = watch.address;
    debug.arch.debugreg[7] |= enable(number++, kind, length);
  }
  if (request.single_step) debug.control |= step_control(request.hold_interrupts);
  if (number != 0) debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
  if (!int3.empty()) debug.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP;
  LIMEN_TRY(try_call(fd_.get(), KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG", &debug));
  debug_ = request;
  armed_ = debug;
  debug_addresses_ = std::move(addresses);
  int3_ = std::move(int3);
  return {};
}

uint32_t Vcpu::step_control(bool hold_interrupts) const {
  return KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP |
         (hold_interrupts && vm_.can_block_interrupts ? KVM_GUESTDBG_BLOCKIRQ : 0);
}

std::optional<vcpu::Exit> Vcpu::debug_exit() {
  const auto& arch = run_->debug.arch;
  vcpu::Exit exit{.reason = vcpu::ExitReason::kDebug, .detail = {}, .debug = {}};
  auto& stop = exit.debug;
  stop.address = arch.pc;
  if (arch.exception == kBreakpointVector) {
    if (place_of(arch.pc)) return breakpoint_exit(arch.pc);
    give_int3_to_guest();
    return std::nullopt;
  }
  if (arch.exception != kDebugVector)
    return failure(
        fmt::format("a debug exit for exception {}, which was not asked for", arch.exception));
  if (passing_) {
    // The step that was for passing a breakpoint is done.
    end_passing();
    if (!debug_.single_step) return std::nullopt;
  }
  for (size_t i = 0; i < kDebugAddresses; ++i) {
    if ((arch.dr6 >> i & 1) == 0) continue;
    if (i < debug_addresses_.size()) return breakpoint_exit(arch.pc);
    if (const size_t watch = i - debug_addresses_.size(); watch < debug_.watchpoints.size()) {
      stop.cause = vcpu::DebugStop::Cause::kWatchpoint;
      stop.address = debug_.watchpoints[watch].address;
      stop.watch = debug_.watchpoints[watch].kind;
      return exit;
    }
  }
  // A step may end before a breakpoint.
  if (has_breakpoint(arch.pc)) stopped_before_ = arch.pc;
  return exit;
}

vcpu::Exit Vcpu::breakpoint_exit(uint64_t address) {
  vcpu::Exit exit{.reason = vcpu::ExitReason::kDebug, .detail = {}, .debug = {}};
  exit.debug.cause = vcpu::DebugStop::Cause::kBreakpoint;
  exit.debug.address = address;
  stopped_before_ = address;
  return exit;
}

std::optional<GuestPhysicalAddress> Vcpu::place_of(uint64_t address) const {
  const auto found = std::ranges::find(int3_, address, &Int3::linear);
  if (found == int3_.end()) return std::nullopt;
  return found->place;
}

bool Vcpu::has_breakpoint(uint64_t address) const {
  return std::ranges::find(debug_addresses_, address) != debug_addresses_.end() ||
         place_of(address).has_value();
}

void Vcpu::insert_breakpoints() {
  for (auto& int3 : int3_) {
    const auto inserted = vm_.breakpoints.insert(int3.place);
    if (!inserted)
      log::error("kvm: a breakpoint at {:#x}: {}", int3.linear, inserted.error().message);
    int3.inserted = inserted.has_value();
  }
}

void Vcpu::remove_breakpoints() {
  for (auto& int3 : int3_)
    if (std::exchange(int3.inserted, false)) vm_.breakpoints.remove(int3.place);
}

/// One of its own, which the kernel kept for the debugger.
void Vcpu::give_int3_to_guest() {
  auto debug = armed_;
  debug.control |= KVM_GUESTDBG_INJECT_BP;
  if (call(fd_.get(), KVM_SET_GUEST_DEBUG, &debug) < 0)
    log::error("kvm: an INT3 of the guest's is lost: KVM_SET_GUEST_DEBUG: {}", errno);
}

void Vcpu::pass_breakpoint() {
  const auto address = std::exchange(stopped_before_, {});
  if (!address || !has_breakpoint(*address)) return;
  kvm_regs regs{};
  kvm_sregs sregs{};
  call(fd_.get(), KVM_GET_REGS, &regs);
  call(fd_.get(), KVM_GET_SREGS, &sregs);
  if (sregs.cs.base + regs.rip != *address) return;
  // RFLAGS.RF would do, were it not for back ends that emulate.
  kvm_guest_debug debug{};
  debug.control = step_control(true);
  if (call(fd_.get(), KVM_SET_GUEST_DEBUG, &debug) < 0) return;
  passing_ = address;
  if (const auto place = place_of(*address)) vm_.breakpoints.lift(*place);
}

void Vcpu::end_passing() {
  if (const auto place = place_of(*std::exchange(passing_, {}))) vm_.breakpoints.drop(*place);
  if (call(fd_.get(), KVM_SET_GUEST_DEBUG, &armed_) < 0)
    log::error("kvm: breakpoints are lost: KVM_SET_GUEST_DEBUG: {}", errno);
}

}  // namespace limen::kvm
