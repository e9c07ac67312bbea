#include "soft/interpret/system/task_switch.h"

#include <array>

#include "soft/interpret/debug.h"
#include "soft/interpret/operand.h"
#include "soft/interpret/system/far_transfer.h"
#include "soft/interpret/system/segment.h"

namespace limen::soft::interpret {

using namespace x86;          // NOLINT(google-build-using-namespace): register and segment names
using namespace system_type;  // NOLINT(google-build-using-namespace)

namespace {

/// The fields of a TSS that a switch saves or loads.
struct TaskImage {
  uint32_t cr3 = 0;  ///< 32-bit TSS only.
  uint32_t eip = 0;
  uint32_t eflags = 0;
  std::array<uint32_t, 8> registers{};
  std::array<uint16_t, 6> selectors{};  ///< ES, CS, SS, DS, FS, GS.
  uint16_t ldt = 0;
  bool debug_trap = false;
};

constexpr uint8_t kBusyBit = 2;
constexpr uint32_t kMinimumLimit32 = 103;
constexpr uint32_t kMinimumLimit16 = 43;

bool is_tss32(unsigned type) { return (type | kBusyBit) == kTss32Busy; }

/// Offsets of the saved fields (SDM Vol. 3A figures 7-2 and 7-10).
struct Layout {
  uint32_t eip, eflags, registers, selectors, element, selector_count, ldt, last;
};
constexpr Layout kLayout32{0x20, 0x24, 0x28, 0x48, 4, 6, 0x60, 0x5F};
constexpr Layout kLayout16{0x0E, 0x10, 0x12, 0x22, 2, 4, 0x2A, 0x29};

class TaskSegment {
 public:
  TaskSegment(Cpu& cpu, uint64_t base, bool wide)
      : cpu_(cpu), base_(base), layout_(wide ? kLayout32 : kLayout16), wide_(wide) {}

  TaskImage read() {
    TaskImage image;
    if (wide_) image.cr3 = field<uint32_t>(0x1C);
    image.eip = element(layout_.eip);
    image.eflags = element(layout_.eflags);
    for (uint32_t i = 0; i < 8; ++i)
      image.registers[i] = element(layout_.registers + i * layout_.element);
    for (uint32_t i = 0; i < layout_.selector_count; ++i)
      image.selectors[i] = field<uint16_t>(layout_.selectors + i * layout_.element);
    image.ldt = field<uint16_t>(layout_.ldt);
    if (wide_) image.debug_trap = field<uint16_t>(0x64) & 1;
    return image;
  }

  void probe_save() {
    for (uint32_t offset = layout_.eip; offset <= layout_.last; offset += layout_.element)
      cpu_.mmu.probe_write_supervisor(linear(offset), layout_.element);
  }

  void save(const TaskImage& image) {
    put_element(layout_.eip, image.eip);
    put_element(layout_.eflags, image.eflags);
    for (uint32_t i = 0; i < 8; ++i)
      put_element(layout_.registers + i * layout_.element, image.registers[i]);
    for (uint32_t i = 0; i < layout_.selector_count; ++i)
      cpu_.mmu.write_supervisor<uint16_t>(linear(layout_.selectors + i * layout_.element),
                                          image.selectors[i]);
  }

  void probe_link() { cpu_.mmu.probe_write_supervisor(linear(0), 2); }
  void set_link(uint16_t selector) { cpu_.mmu.write_supervisor<uint16_t>(linear(0), selector); }

 private:
  [[nodiscard]] uint64_t linear(uint32_t offset) const { return (base_ + offset) & 0xFFFFFFFF; }
  template <typename T>
  T field(uint32_t offset) {
    return cpu_.mmu.read_supervisor<T>(linear(offset));
  }
  uint32_t element(uint32_t offset) {
    return wide_ ? field<uint32_t>(offset) : field<uint16_t>(offset);
  }
  void put_element(uint32_t offset, uint32_t value) {
    if (wide_)
      cpu_.mmu.write_supervisor<uint32_t>(linear(offset), value);
    else
      cpu_.mmu.write_supervisor<uint16_t>(linear(offset), static_cast<uint16_t>(value));
  }

  Cpu& cpu_;
  uint64_t base_;
  Layout layout_;
  bool wide_;
};

TaskImage outgoing_image(const Cpu& cpu, const TaskSwitch& request) {
  TaskImage image;
  image.eip = static_cast<uint32_t>(request.return_rip);
  image.eflags = static_cast<uint32_t>(cpu.rflags() | request.saved_flags_set);
  if (request.cause == TaskSwitchCause::kReturn)
    image.eflags &= ~static_cast<uint32_t>(rflags::kNestedTask);
  for (size_t i = 0; i < 8; ++i) image.registers[i] = static_cast<uint32_t>(cpu.gpr[i]);
  for (size_t i = 0; i < 6; ++i) image.selectors[i] = cpu.system.segments[i].selector;
  return image;
}

/// The descriptor of the TSS that is being left, so that its busy bit can go.
std::optional<Descriptor> outgoing_descriptor(Cpu& cpu, TaskSwitchCause cause) {
  if (cause != TaskSwitchCause::kJump && cause != TaskSwitchCause::kReturn) return std::nullopt;
  Descriptor descriptor = fetch_descriptor(cpu, cpu.system.tr.selector, Vector::kInvalidTss);
  cpu.mmu.probe_write_supervisor(system_linear(cpu, descriptor.address + 5), 1);
  return descriptor;
}

void load_ldt(Cpu& cpu, uint16_t selector, uint32_t external) {
  cpu.system.ldtr = null_segment(selector);
  if (is_null(selector)) return;
  if (selector & 4) raise_selector(Vector::kInvalidTss, selector, external);
  const Descriptor descriptor = fetch_descriptor(cpu, selector, Vector::kInvalidTss, external);
  if (!descriptor.is_system() || descriptor.type() != kLdt || !descriptor.present())
    raise_selector(Vector::kInvalidTss, selector, external);
  cpu.system.ldtr = make_segment(selector, descriptor);
}

/// Loads and checks the new task's segments, in the new task's context.
void load_segments(Cpu& cpu, const TaskImage& image, uint32_t external) {
  auto& segments = cpu.system.segments;
  if (cpu.virtual_8086) {
    load_ldt(cpu, image.ldt, external);
    return;
  }
  const uint16_t cs = image.selectors[kCs];
  const unsigned cpl = cs & 3u;
  load_ldt(cpu, image.ldt, external);
  segments[kSs] =
      checked_stack_segment(cpu, image.selectors[kSs], cpl, Vector::kInvalidTss, external);
  cpu.update_mode();

  if (is_null(cs)) Cpu::raise(Exception::with_code(Vector::kInvalidTss, external));
  Descriptor code = fetch_descriptor(cpu, cs, Vector::kInvalidTss, external);
  if (!code.is_code() || (code.is_conforming() ? code.dpl() > cpl : code.dpl() != cpl))
    raise_selector(Vector::kInvalidTss, cs, external);
  segments[kCs] = make_code_segment(cpu, cs, code, cpl, external);
  cpu.update_mode();

  for (const uint8_t segment : {kDs, kEs, kFs, kGs})
    segments[segment] =
        checked_data_segment(cpu, image.selectors[segment], cpl, Vector::kInvalidTss, external);
}

/// Registers, CR3 and unchecked segment selectors: what commits the switch.
void load_registers(Cpu& cpu, const TaskImage& image, bool wide) {
  for (size_t i = 0; i < 8; ++i)
    cpu.gpr[i] = wide ? image.registers[i] : (cpu.gpr[i] & 0xFFFF0000) | image.registers[i];
  const uint64_t kept = wide ? 0 : cpu.rflags() & 0xFFFF0000 & ~rflags::kVirtual8086;
  constexpr uint64_t kDefined = 0x3F7FD5;
  cpu.set_rflags((image.eflags & kDefined) | kept);
  cpu.rip = cpu.gpr[kNextRip] = image.eip;

  const bool virtual_8086 = wide && (image.eflags & rflags::kVirtual8086);
  const unsigned cpl = virtual_8086 ? 3 : image.selectors[kCs] & 3u;
  for (size_t i = 0; i < 6; ++i)
    cpu.system.segments[i] = virtual_8086 ? virtual_8086_segment(image.selectors[i])
                                          : null_segment(image.selectors[i], cpl);
  // Until its descriptor is read, CS runs nothing: only its size matters to a fault's delivery.
  if (wide) cpu.system.segments[kCs].attributes |= Segment::kDefaultBig;
}

}  // namespace

void switch_task(Cpu& cpu, const TaskSwitch& request) {
  const bool wide = is_tss32(request.descriptor.type());
  const uint32_t external = request.external;
  if (!request.descriptor.present())
    raise_selector(Vector::kSegmentNotPresent, request.selector, external);
  if (request.descriptor.limit() < (wide ? kMinimumLimit32 : kMinimumLimit16))
    raise_selector(Vector::kInvalidTss, request.selector, external);

  // Everything that can fault in the old task comes before the first store.
  TaskSegment incoming(cpu, request.descriptor.base(), wide);
  TaskSegment outgoing(cpu, cpu.system.tr.base, is_tss32(cpu.system.tr.type()));
  TaskImage image = incoming.read();
  outgoing.probe_save();
  std::optional<Descriptor> left = outgoing_descriptor(cpu, request.cause);
  const bool nests =
      request.cause == TaskSwitchCause::kCall || request.cause == TaskSwitchCause::kInterrupt;
  if (nests) incoming.probe_link();
  Descriptor descriptor = request.descriptor;
  if (request.cause != TaskSwitchCause::kReturn)
    cpu.mmu.probe_write_supervisor(system_linear(cpu, descriptor.address + 5), 1);

  if (left) change_type(cpu, *left, kBusyBit, 0);
  outgoing.save(outgoing_image(cpu, request));
  if (nests) {
    incoming.set_link(cpu.system.tr.selector);
    image.eflags |= static_cast<uint32_t>(rflags::kNestedTask);
  }
  if (request.cause != TaskSwitchCause::kReturn) change_type(cpu, descriptor, 0, kBusyBit);
  cpu.system.tr = make_segment(request.selector, descriptor);
  cpu.system.tr.attributes |= kBusyBit;
  cpu.system.cr0 |= cr0::kTaskSwitched;
  cpu.system.dr[7] &= ~uint64_t{0x155};  // L0-L3, LE
  debug_registers_changed(cpu);
  load_registers(cpu, image, wide);
  cpu.update_mode();
  if (wide && (cpu.system.cr0 & cr0::kPaging)) {
    if (!cpu.mmu.load_cr3(image.cr3, false)) Cpu::raise(Exception::general_protection(external));
    cpu.system.cr3 = image.cr3;
    cpu.update_mode();
  }

  load_segments(cpu, image, external);
  check_code_offset(cpu, cpu.system.segments[kCs], image.eip, external);
  if (request.error_code) {
    const StackTarget stack = StackTarget::current(cpu);
    PushFrame frame(wide ? 4 : 2);
    frame.add(*request.error_code);
    frame.check(cpu, stack, external);
    store_stack_pointer(cpu, frame.write(cpu, stack), stack.mask());
  }
  if (image.debug_trap) cpu.activity.pending_debug |= dr6::kTaskSwitch;
}

void switch_task_through_gate(Cpu& cpu, const Descriptor& gate, TaskSwitchCause cause,
                              uint64_t return_rip, uint64_t saved_flags_set,
                              std::optional<uint32_t> error_code, uint32_t external) {
  const uint16_t selector = gate.gate_selector();
  if (is_null(selector) || (selector & 4))
    raise_selector(Vector::kGeneralProtection, selector, external);
  const Descriptor descriptor =
      fetch_descriptor(cpu, selector, Vector::kGeneralProtection, external);
  if (!descriptor.is_system() ||
      (descriptor.type() != kTss16Available && descriptor.type() != kTss32Available))
    raise_selector(Vector::kGeneralProtection, selector, external);
  switch_task(cpu, {.selector = selector,
                    .descriptor = descriptor,
                    .cause = cause,
                    .return_rip = return_rip,
                    .saved_flags_set = saved_flags_set,
                    .error_code = error_code,
                    .external = external});
}

void return_to_previous_task(Cpu& cpu) {
  const auto selector = cpu.mmu.read_supervisor<uint16_t>(system_linear(cpu, cpu.system.tr.base));
  if (is_null(selector) || (selector & 4)) raise_selector(Vector::kInvalidTss, selector);
  const Descriptor descriptor = fetch_descriptor(cpu, selector, Vector::kInvalidTss);
  if (!descriptor.is_system() ||
      (descriptor.type() != kTss16Busy && descriptor.type() != kTss32Busy))
    raise_selector(Vector::kInvalidTss, selector);
  switch_task(cpu, {.selector = selector,
                    .descriptor = descriptor,
                    .cause = TaskSwitchCause::kReturn,
                    .return_rip = cpu.gpr[kNextRip]});
}

}  // namespace limen::soft::interpret
