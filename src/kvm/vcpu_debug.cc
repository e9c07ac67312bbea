// Breakpoints, watchpoints and single steps, with the processor's debug registers (SDM Vol.
// 3B 17.2).
#include <algorithm>
#include <array>
#include <bit>

#include "base/log.h"
#include "kvm/ioctl.h"
#include "kvm/state/registers.h"
#include "kvm/vcpu.h"
#include "x86/registers.h"

namespace limen::kvm {
namespace {

constexpr size_t kDebugAddresses = 4;
constexpr uint32_t kDebugVector = 1;

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
  kvm_guest_debug debug{};
  std::vector<uint64_t> addresses = request.breakpoints;
  for (const uint64_t address : request.hardware_breakpoints)
    if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
  const size_t wanted = addresses.size() + request.watchpoints.size();
  if (wanted > kDebugAddresses)
    return fail("{} breakpoints and watchpoints are too many; with kvm a processor has {}", wanted,
                kDebugAddresses);
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
  LIMEN_TRY(try_call(fd_.get(), KVM_SET_GUEST_DEBUG, "KVM_SET_GUEST_DEBUG", &debug));
  debug_ = request;
  debug_addresses_ = std::move(addresses);
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
    if (i < debug_addresses_.size()) {
      stop.cause = vcpu::DebugStop::Cause::kBreakpoint;
      stopped_before_ = arch.pc;
      return exit;
    }
    if (const size_t watch = i - debug_addresses_.size(); watch < debug_.watchpoints.size()) {
      stop.cause = vcpu::DebugStop::Cause::kWatchpoint;
      stop.address = debug_.watchpoints[watch].address;
      stop.watch = debug_.watchpoints[watch].kind;
      return exit;
    }
  }
  // A step may end before a breakpoint.
  if (std::ranges::find(debug_addresses_, arch.pc) != debug_addresses_.end())
    stopped_before_ = arch.pc;
  return exit;
}

void Vcpu::pass_breakpoint() {
  const auto address = std::exchange(stopped_before_, {});
  if (!address || debug_addresses_.empty()) return;
  kvm_regs regs{};
  kvm_sregs sregs{};
  call(fd_.get(), KVM_GET_REGS, &regs);
  call(fd_.get(), KVM_GET_SREGS, &sregs);
  if (sregs.cs.base + regs.rip != *address) return;
  // RFLAGS.RF would do, were it not for back ends that emulate.
  kvm_guest_debug debug{};
  debug.control = step_control(true);
  passing_ = call(fd_.get(), KVM_SET_GUEST_DEBUG, &debug) == 0 ? address : std::nullopt;
}

void Vcpu::end_passing() {
  const auto request = debug_;
  passing_.reset();
  if (const auto set = set_debug(request); !set) log::error("kvm: {}", set.error().message);
}

}  // namespace limen::kvm
