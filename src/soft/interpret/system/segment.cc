#include "soft/interpret/system/segment.h"

#include "soft/interpret/operand.h"

namespace limen::soft::interpret {

using decode::CodeMode;
using x86::Exception;
using x86::Segment;
using x86::Vector;

namespace {

/// Present data segment, writable, accessed.
constexpr uint16_t kReadWriteData =
    Segment::kPresent | Segment::kNotSystem | Segment::kWritable | Segment::kAccessed;

}  // namespace

bool within_limit(const Segment& segment, uint64_t offset, uint64_t size) {
  const uint64_t last = offset + size - 1;
  const bool expands_down =
      (segment.attributes & (Segment::kCode | Segment::kExpandDown)) == Segment::kExpandDown;
  if (!expands_down) return last <= segment.limit;
  const uint64_t top = segment.default_big() ? 0xFFFFFFFF : 0xFFFF;
  return offset > segment.limit && last <= top;
}

void check_legacy_segment(const Cpu& cpu, uint8_t segment, uint64_t offset, uint64_t size,
                          AccessKind kind) {
  const Segment& used = cpu.system.segments[segment];
  if (cpu.protected_mode) {
    const bool is_code = used.attributes & Segment::kCode;
    const bool second_bit = used.attributes & Segment::kWritable;  // code: readable
    const bool allowed =
        kind == AccessKind::kWrite ? !is_code && second_bit : !is_code || second_bit;
    if (!allowed || !used.present()) raise_segment_fault(segment);
  }
  if (!within_limit(used, offset, size)) raise_segment_fault(segment);
}

void raise_segment_fault(uint8_t segment) {
  Cpu::raise(Exception::with_code(
      segment == x86::kSs ? Vector::kStackFault : Vector::kGeneralProtection, 0));
}

Segment null_segment(uint16_t selector, unsigned dpl) {
  return {.selector = selector, .attributes = static_cast<uint16_t>(dpl << 5)};
}

namespace {

constexpr uint16_t kFlatCommon = kReadWriteData | Segment::kGranularity;

}  // namespace

Segment flat_code_segment(uint16_t selector, unsigned dpl, bool is_long) {
  return {.selector = selector,
          .attributes = static_cast<uint16_t>(kFlatCommon | Segment::kCode | (dpl << 5) |
                                              (is_long ? Segment::kLong : Segment::kDefaultBig)),
          .limit = 0xFFFFFFFF};
}

Segment flat_stack_segment(uint16_t selector, unsigned dpl) {
  return {.selector = selector,
          .attributes = static_cast<uint16_t>(kFlatCommon | Segment::kDefaultBig | (dpl << 5)),
          .limit = 0xFFFFFFFF};
}

Segment real_mode_segment(const Segment& before, uint16_t selector) {
  Segment after = before;
  after.selector = selector;
  after.base = uint64_t{selector} << 4;
  if (!before.present()) after.limit = 0xFFFF;  // was null: nothing to keep
  after.attributes = static_cast<uint16_t>(
      kReadWriteData | (before.attributes & (Segment::kDefaultBig | Segment::kGranularity)));
  return after;
}

Segment virtual_8086_segment(uint16_t selector) {
  return {.selector = selector,
          .attributes = kReadWriteData | (3u << 5),
          .limit = 0xFFFF,
          .base = uint64_t{selector} << 4};
}

Segment checked_data_segment(Cpu& cpu, uint16_t selector, unsigned cpl, Vector fault,
                             uint32_t external) {
  if (is_null(selector)) return null_segment(selector);
  Descriptor descriptor = fetch_descriptor(cpu, selector, fault, external);
  if (descriptor.is_system() || !descriptor.is_readable())
    raise_selector(fault, selector, external);
  if (!descriptor.is_conforming() && ((selector & 3u) > descriptor.dpl() || cpl > descriptor.dpl()))
    raise_selector(fault, selector, external);
  if (!descriptor.present()) raise_selector(Vector::kSegmentNotPresent, selector, external);
  mark_accessed(cpu, descriptor);
  return make_segment(selector, descriptor);
}

Segment checked_stack_segment(Cpu& cpu, uint16_t selector, unsigned cpl, Vector fault,
                              uint32_t external) {
  if (is_null(selector)) Cpu::raise(Exception::with_code(fault, external));
  Descriptor descriptor = fetch_descriptor(cpu, selector, fault, external);
  if ((selector & 3u) != cpl || !descriptor.is_writable_data() || descriptor.dpl() != cpl)
    raise_selector(fault, selector, external);
  if (!descriptor.present()) raise_selector(Vector::kStackFault, selector, external);
  mark_accessed(cpu, descriptor);
  return make_segment(selector, descriptor);
}

void load_segment_register(Cpu& cpu, uint8_t segment, uint16_t selector) {
  Segment& target = cpu.system.segments[segment];
  if (!cpu.protected_mode) {
    target =
        cpu.virtual_8086 ? virtual_8086_segment(selector) : real_mode_segment(target, selector);
  } else if (segment == x86::kSs) {
    // 64-bit code outside ring 3 may run with a null SS (SDM Vol. 3A 5.4.1.1).
    if (is_null(selector) && cpu.mode == CodeMode::k64 && cpu.cpl != 3 &&
        (selector & 3u) == cpu.cpl)
      target = null_segment(selector, cpu.cpl);
    else
      target = checked_stack_segment(cpu, selector, cpu.cpl);
  } else {
    target = checked_data_segment(cpu, selector, cpu.cpl);
  }
  if (segment == x86::kSs) cpu.update_mode();
}

void drop_inner_data_segments(Cpu& cpu, unsigned new_cpl) {
  for (const uint8_t segment : {x86::kEs, x86::kDs, x86::kFs, x86::kGs}) {
    Segment& used = cpu.system.segments[segment];
    const bool conforming = (used.attributes & (Segment::kCode | Segment::kExpandDown)) ==
                            (Segment::kCode | Segment::kExpandDown);
    if (!conforming && used.dpl() < new_cpl && used.present()) {
      const uint64_t base = used.base;
      used = null_segment(0);
      used.base = base;  // the hidden base of FS and GS stays in 64-bit mode
    }
  }
}

}  // namespace limen::soft::interpret
