// FXSAVE, FXRSTOR and the XSAVE family on the guest's state (SDM Vol. 1 10.5, 13.5 to 13.12).
#include "soft/interpret/native/state_area.h"

#include <algorithm>
#include <bit>
#include <span>

#include "soft/interpret/native/checks.h"
#include "soft/interpret/native/host.h"
#include "soft/interpret/native/image.h"
#include "soft/interpret/native/special.h"
#include "soft/interpret/operand.h"

namespace limen::soft::interpret::native {
namespace {

using x86::Vector;

enum Component : unsigned {
  kX87Component = 0,
  kSseComponent = 1,
  kAvxComponent = 2,
  kOpmaskComponent = 5,
  kZmmHi256Component = 6,
  kHi16ZmmComponent = 7,
};

constexpr uint64_t kCompacted = uint64_t{1} << 63;
constexpr uint64_t kSseOrAvx = x86::xcr0::kSse | x86::xcr0::kAvx;
constexpr size_t kLargestArea = 4096;

bool is_set(uint64_t mask, unsigned component) { return (mask >> component) & 1; }

/// Registers that code of the current mode can name; the others are not transferred (SDM Vol. 1
/// 13.7, 13.8).
unsigned vector_registers(const Cpu& cpu) { return cpu.mode == decode::CodeMode::k64 ? 16 : 8; }

/// Visits the pieces of an extended component: the bytes of the guest's state and their offset in
/// the component.
template <typename Visit>
void for_each_piece(Cpu& cpu, unsigned component, Visit visit) {
  auto& zmm = cpu.vector.zmm;
  const unsigned low = vector_registers(cpu);
  switch (component) {
    case kAvxComponent:
      for (unsigned i = 0; i < low; ++i) visit(zmm[i].data() + 16, 16 * i, 16u);
      break;
    case kOpmaskComponent:
      visit(reinterpret_cast<uint8_t*>(cpu.vector.opmask.data()), 0u, 64u);
      break;
    case kZmmHi256Component:
      for (unsigned i = 0; i < low; ++i) visit(zmm[i].data() + 32, 32 * i, 32u);
      break;
    case kHi16ZmmComponent:
      if (low == 16) visit(zmm[16].data(), 0u, 1024u);
      break;
    default:
      break;
  }
}

bool all_zero(const uint8_t* bytes, size_t size) {
  return std::all_of(bytes, bytes + size, [](uint8_t byte) { return byte == 0; });
}

/// XINUSE: which of the components in `mask` are not in their initial state (SDM Vol. 1 13.6).
uint64_t in_use(Cpu& cpu, uint64_t mask) {
  uint64_t used = 0;
  const auto& state = cpu.vector;
  if (is_set(mask, kX87Component)) {
    const auto* image = state.fxsave.data();
    if (image_field<uint16_t>(state, kControlWordAt) != kInitialControlWord ||
        !all_zero(image + 2, kMxcsrAt - 2) || !all_zero(image + kStackAt, 128))
      used |= x86::xcr0::kX87;
  }
  if (is_set(mask, kSseComponent)) {
    for (unsigned i = 0; i < 16; ++i)
      if (!all_zero(state.zmm[i].data(), 16)) used |= x86::xcr0::kSse;
  }
  for (unsigned component = 2; component < StateLayout::kComponents; ++component) {
    if (!is_set(mask, component)) continue;
    for_each_piece(cpu, component, [&](const uint8_t* bytes, unsigned, unsigned size) {
      if (!all_zero(bytes, size)) used |= uint64_t{1} << component;
    });
  }
  return used;
}

/// An image of a state area that is written to the guest piece by piece.
class AreaWriter {
 public:
  AreaWriter(Cpu& cpu, uint64_t linear) : cpu_(cpu), linear_(linear) {}

  void write(uint64_t offset, const void* bytes, size_t size) {
    cpu_.mmu.write_bytes(linear_ + offset, {static_cast<const std::byte*>(bytes), size});
  }

  /// Bytes 0 to 23 and ST0 to ST7; the pointers as the host has them. Without `wide` (REX.W) the
  /// pointers are 32 bits with selectors, which are zero (CPUID.7.0:EBX[13]).
  void write_x87(bool wide) {
    std::array<uint8_t, kMxcsrAt> words;
    std::memcpy(words.data(), cpu_.vector.fxsave.data(), words.size());
    if (!host_features().saves_x87_pointers &&
        (image_field<uint16_t>(cpu_.vector, kStatusWordAt) & kErrorSummary) == 0)
      std::memset(words.data() + kOpcodeAt, 0, kMxcsrAt - kOpcodeAt);
    if (!wide) {
      std::memset(words.data() + kInstructionPointerAt + 4, 0, 4);
      std::memset(words.data() + kDataPointerAt + 4, 0, 4);
    }
    write(0, words.data(), words.size());
    write(kStackAt, cpu_.vector.fxsave.data() + kStackAt, 128);
  }

  void write_mxcsr() {
    const uint32_t words[2] = {image_field<uint32_t>(cpu_.vector, kMxcsrAt),
                               host_features().mxcsr_mask};
    write(kMxcsrAt, words, sizeof words);
  }

  void write_xmm() {
    std::array<uint8_t, 256> bytes;
    const unsigned count = vector_registers(cpu_);
    for (unsigned i = 0; i < count; ++i)
      std::memcpy(bytes.data() + 16 * i, cpu_.vector.zmm[i].data(), 16);
    write(kXmmAt, bytes.data(), 16 * count);
  }

  void write_component(unsigned component, uint64_t offset) {
    std::array<uint8_t, 1024> bytes;
    size_t end = 0;
    for_each_piece(cpu_, component, [&](const uint8_t* from, unsigned at, unsigned size) {
      std::memcpy(bytes.data() + at, from, size);
      end = at + size;
    });
    if (end) write(offset, bytes.data(), end);
  }

 private:
  Cpu& cpu_;
  uint64_t linear_;
};

uint64_t aligned_operand(Cpu& cpu, const Operation& operation, uint64_t size, AccessKind kind,
                         uint64_t alignment) {
  const uint64_t linear = operand_linear(cpu, operation, size, kind);
  if (linear & (alignment - 1)) throw x86::Exception::general_protection();
  return linear;
}

void check_mxcsr(uint32_t value) {
  if (value & ~host_features().mxcsr_mask) throw x86::Exception::general_protection();
}

// --- FXSAVE and FXRSTOR ---

template <bool kWide>
void fxsave(Cpu& cpu, const Operation& operation) {
  check<Check::kMmx>(cpu);
  const uint64_t linear = aligned_operand(cpu, operation, kLegacyAreaSize, AccessKind::kWrite, 16);
  cpu.mmu.probe_write(linear, kLegacyAreaSize);
  AreaWriter writer(cpu, linear);
  writer.write_x87(kWide);
  writer.write_mxcsr();
  if (cpu.system.cr4 & x86::cr4::kOsfxsr) writer.write_xmm();
}

void load_x87(Cpu& cpu, const uint8_t* area, bool wide) {
  auto& state = cpu.vector;
  std::memcpy(state.fxsave.data(), area, kMxcsrAt);
  std::memcpy(state.fxsave.data() + kStackAt, area + kStackAt, 128);
  const auto control = image_field<uint16_t>(state, kControlWordAt);
  set_image_field(state, kControlWordAt, static_cast<uint16_t>((control & 0x1F3F) | 0x40));
  set_image_field(state, kTagsAt, uint16_t{state.fxsave[kTagsAt]});
  const auto opcode = image_field<uint16_t>(state, kOpcodeAt);
  set_image_field(state, kOpcodeAt, static_cast<uint16_t>(opcode & 0x7FF));
  for (unsigned i = 0; i < 8; ++i) std::memset(state.fxsave.data() + kStackAt + 16 * i + 10, 0, 6);
  if (!wide) {
    std::memset(state.fxsave.data() + kInstructionPointerAt + 4, 0, 4);
    std::memset(state.fxsave.data() + kDataPointerAt + 4, 0, 4);
  }
  update_error_summary(state);
}

void load_xmm(Cpu& cpu, const uint8_t* area) {
  for (unsigned i = 0; i < vector_registers(cpu); ++i)
    std::memcpy(cpu.vector.zmm[i].data(), area + kXmmAt + 16 * i, 16);
}

template <bool kWide>
void fxrstor(Cpu& cpu, const Operation& operation) {
  check<Check::kMmx>(cpu);
  const uint64_t linear = aligned_operand(cpu, operation, kLegacyAreaSize, AccessKind::kRead, 16);
  std::array<uint8_t, kLegacyAreaSize> area;
  cpu.mmu.read_bytes(linear, std::as_writable_bytes(std::span(area)));
  const bool sse = (cpu.system.cr4 & x86::cr4::kOsfxsr) != 0;
  uint32_t mxcsr;
  std::memcpy(&mxcsr, area.data() + kMxcsrAt, 4);
  if (sse) check_mxcsr(mxcsr);
  load_x87(cpu, area.data(), kWide);
  if (!sse) return;
  set_image_field(cpu.vector, kMxcsrAt, mxcsr);
  load_xmm(cpu, area.data());
}

// --- The XSAVE family ---

uint64_t requested(const Cpu& cpu, uint64_t enabled) {
  const uint64_t mask = (cpu.gpr[x86::kRdx] << 32) | static_cast<uint32_t>(cpu.gpr[x86::kRax]);
  return mask & enabled;
}

void check_xsave(const Cpu& cpu) {
  if (!(cpu.system.cr4 & x86::cr4::kOsxsave)) raise_plain(Vector::kInvalidOpcode);
  if (cpu.system.cr0 & x86::cr0::kTaskSwitched) raise_plain(Vector::kDeviceNotAvailable);
}

const StateLayout& layout_of(const Operation& operation) {
  return *static_cast<const StateLayout*>(operation.native);
}

/// Bytes from the start of the area to the end of the last component in `mask`.
uint64_t area_size(const StateLayout& layout, uint64_t format, uint64_t mask) {
  uint64_t end = kExtendedAt;
  for (unsigned i = 2; i < StateLayout::kComponents; ++i)
    if (is_set(mask, i)) end = std::max(end, layout.offset(format, i) + layout.components[i].size);
  return end;
}

enum class SaveForm { kPlain, kOptimized };

/// XSAVE and XSAVEOPT: the standard format (SDM Vol. 1 13.7, 13.9).
template <SaveForm kForm, bool kWide>
void xsave(Cpu& cpu, const Operation& operation) {
  check_xsave(cpu);
  const StateLayout& layout = layout_of(operation);
  const uint64_t mask = requested(cpu, cpu.system.xcr0);
  const uint64_t size = area_size(layout, 0, mask);
  const uint64_t linear = aligned_operand(cpu, operation, size, AccessKind::kWrite, 64);
  cpu.mmu.probe_write(linear, static_cast<unsigned>(size));

  const uint64_t used = in_use(cpu, mask);
  const uint64_t saved = kForm == SaveForm::kOptimized ? used : mask;
  AreaWriter writer(cpu, linear);
  if (is_set(saved, kX87Component)) writer.write_x87(kWide);
  if (mask & kSseOrAvx) writer.write_mxcsr();
  if (is_set(saved, kSseComponent)) writer.write_xmm();
  for (unsigned i = 2; i < StateLayout::kComponents; ++i)
    if (is_set(saved, i)) writer.write_component(i, layout.components[i].offset);
  const auto before = cpu.mmu.read<uint64_t>(linear + kLegacyAreaSize);
  cpu.mmu.write<uint64_t>(linear + kLegacyAreaSize, (before & ~mask) | used);
}

/// XSAVEC and XSAVES: the compacted format (SDM Vol. 1 13.10, 13.11).
template <bool kSupervisor, bool kWide>
void xsave_compacted(Cpu& cpu, const Operation& operation) {
  check_xsave(cpu);
  if (kSupervisor && cpu.cpl != 0) throw x86::Exception::general_protection();
  const StateLayout& layout = layout_of(operation);
  const uint64_t enabled = cpu.system.xcr0 | (kSupervisor ? cpu.system.xss : 0);
  const uint64_t mask = requested(cpu, enabled);
  const uint64_t format = mask | kCompacted;
  const uint64_t size = area_size(layout, format, mask);
  const uint64_t linear = aligned_operand(cpu, operation, size, AccessKind::kWrite, 64);
  cpu.mmu.probe_write(linear, static_cast<unsigned>(size));

  uint64_t saved = in_use(cpu, mask);
  if (is_set(mask, kSseComponent) && image_field<uint32_t>(cpu.vector, kMxcsrAt) != kInitialMxcsr)
    saved |= x86::xcr0::kSse;
  AreaWriter writer(cpu, linear);
  if (is_set(saved, kX87Component)) writer.write_x87(kWide);
  if (is_set(saved, kSseComponent)) {
    writer.write_mxcsr();
    writer.write_xmm();
  }
  for (unsigned i = 2; i < StateLayout::kComponents; ++i)
    if (is_set(saved, i)) writer.write_component(i, layout.compacted_offset(format, i));
  const uint64_t header[2] = {saved, format};
  writer.write(kLegacyAreaSize, header, sizeof header);
}

struct Header {
  uint64_t state = 0;   ///< XSTATE_BV.
  uint64_t format = 0;  ///< XCOMP_BV.
  std::array<uint64_t, 6> reserved{};
};
static_assert(sizeof(Header) == kHeaderSize);

/// Raises #GP(0) for a header that XRSTOR or XRSTORS refuses (SDM Vol. 1 13.8, 13.12).
void check_header(const Header& header, uint64_t enabled, bool compaction, bool only_compacted) {
  bool good;
  if (header.format & kCompacted) {
    const uint64_t components = header.format & ~kCompacted;
    good = compaction && (components & ~enabled) == 0 && (header.state & ~components) == 0 &&
           std::ranges::all_of(header.reserved, [](uint64_t word) { return word == 0; });
  } else {
    good = !only_compacted && (header.state & ~enabled) == 0 && header.format == 0 &&
           header.reserved[0] == 0;
  }
  if (!good) throw x86::Exception::general_protection();
}

template <bool kSupervisor, bool kWide>
void xrstor(Cpu& cpu, const Operation& operation) {
  check_xsave(cpu);
  if (kSupervisor && cpu.cpl != 0) throw x86::Exception::general_protection();
  const StateLayout& layout = layout_of(operation);
  const uint64_t enabled = cpu.system.xcr0 | (kSupervisor ? cpu.system.xss : 0);
  const uint64_t mask = requested(cpu, enabled);
  const uint64_t linear = aligned_operand(cpu, operation, kExtendedAt, AccessKind::kRead, 64);

  // Everything is read before anything is loaded.
  alignas(64) std::array<uint8_t, kLargestArea> area;
  const auto read = [&](uint64_t offset, size_t size) {
    cpu.mmu.read_bytes(linear + offset, {reinterpret_cast<std::byte*>(area.data() + offset), size});
  };
  read(kLegacyAreaSize, kHeaderSize);
  Header header;
  std::memcpy(&header, area.data() + kLegacyAreaSize, sizeof header);
  check_header(header, enabled, layout.compaction, kSupervisor);

  const bool compacted = (header.format & kCompacted) != 0;
  const uint64_t loaded = mask & header.state;
  const uint64_t initialized = mask & ~header.state;
  const bool loads_mxcsr = compacted ? is_set(loaded, kSseComponent) : (mask & kSseOrAvx) != 0;
  cpu.mmu.probe_read(linear, static_cast<unsigned>(area_size(layout, header.format, mask)));
  if (loads_mxcsr || (loaded & (x86::xcr0::kX87 | x86::xcr0::kSse))) read(0, kLegacyAreaSize);
  for (unsigned i = 2; i < StateLayout::kComponents; ++i) {
    if (!is_set(loaded, i)) continue;
    const uint64_t offset = layout.offset(header.format, i);
    const size_t size = layout.components[i].size;
    if (offset + size > area.size()) throw x86::Exception::general_protection();
    read(offset, size);
  }
  uint32_t mxcsr = kInitialMxcsr;
  if (loads_mxcsr) {
    std::memcpy(&mxcsr, area.data() + kMxcsrAt, 4);
    check_mxcsr(mxcsr);
  }

  if (is_set(loaded, kX87Component)) {
    load_x87(cpu, area.data(), kWide);
  } else if (is_set(initialized, kX87Component)) {
    initialize_x87(cpu.vector);
    std::memset(cpu.vector.fxsave.data() + kStackAt, 0, 128);
  }
  if (loads_mxcsr || is_set(initialized, kSseComponent))
    set_image_field(cpu.vector, kMxcsrAt, mxcsr);
  if (is_set(loaded, kSseComponent)) {
    load_xmm(cpu, area.data());
  } else if (is_set(initialized, kSseComponent)) {
    for (unsigned i = 0; i < vector_registers(cpu); ++i)
      std::memset(cpu.vector.zmm[i].data(), 0, 16);
  }
  for (unsigned i = 2; i < StateLayout::kComponents; ++i) {
    if (is_set(loaded, i)) {
      const uint8_t* from = area.data() + layout.offset(header.format, i);
      for_each_piece(cpu, i, [&](uint8_t* into, unsigned at, unsigned size) {
        std::memcpy(into, from + at, size);
      });
    } else if (is_set(initialized, i)) {
      for_each_piece(cpu, i,
                     [](uint8_t* into, unsigned, unsigned size) { std::memset(into, 0, size); });
    }
  }
}

// --- MXCSR ---

template <Check kCheck>
void ldmxcsr(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  const auto value = cpu.mmu.read<uint32_t>(operand_linear(cpu, operation, 4, AccessKind::kRead));
  check_mxcsr(value);
  set_image_field(cpu.vector, kMxcsrAt, value);
}

template <Check kCheck>
void stmxcsr(Cpu& cpu, const Operation& operation) {
  check<kCheck>(cpu);
  cpu.mmu.write<uint32_t>(operand_linear(cpu, operation, 4, AccessKind::kWrite),
                          image_field<uint32_t>(cpu.vector, kMxcsrAt));
}

}  // namespace

Handler select_state_area(const decode::Instruction& instruction, Operation& operation, Cpu& cpu) {
  Handler handler = nullptr;
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_FXSAVE:
      return fxsave<false>;
    case ZYDIS_MNEMONIC_FXSAVE64:
      return fxsave<true>;
    case ZYDIS_MNEMONIC_FXRSTOR:
      return fxrstor<false>;
    case ZYDIS_MNEMONIC_FXRSTOR64:
      return fxrstor<true>;
    case ZYDIS_MNEMONIC_LDMXCSR:
      return ldmxcsr<Check::kSse>;
    case ZYDIS_MNEMONIC_STMXCSR:
      return stmxcsr<Check::kSse>;
    case ZYDIS_MNEMONIC_VLDMXCSR:
      return ldmxcsr<Check::kAvx>;
    case ZYDIS_MNEMONIC_VSTMXCSR:
      return stmxcsr<Check::kAvx>;
    case ZYDIS_MNEMONIC_XSAVE:
      handler = xsave<SaveForm::kPlain, false>;
      break;
    case ZYDIS_MNEMONIC_XSAVE64:
      handler = xsave<SaveForm::kPlain, true>;
      break;
    case ZYDIS_MNEMONIC_XSAVEOPT:
      handler = xsave<SaveForm::kOptimized, false>;
      break;
    case ZYDIS_MNEMONIC_XSAVEOPT64:
      handler = xsave<SaveForm::kOptimized, true>;
      break;
    case ZYDIS_MNEMONIC_XSAVEC:
      handler = xsave_compacted<false, false>;
      break;
    case ZYDIS_MNEMONIC_XSAVEC64:
      handler = xsave_compacted<false, true>;
      break;
    case ZYDIS_MNEMONIC_XSAVES:
      handler = xsave_compacted<true, false>;
      break;
    case ZYDIS_MNEMONIC_XSAVES64:
      handler = xsave_compacted<true, true>;
      break;
    case ZYDIS_MNEMONIC_XRSTOR:
      handler = xrstor<false, false>;
      break;
    case ZYDIS_MNEMONIC_XRSTOR64:
      handler = xrstor<false, true>;
      break;
    case ZYDIS_MNEMONIC_XRSTORS:
      handler = xrstor<true, false>;
      break;
    case ZYDIS_MNEMONIC_XRSTORS64:
      handler = xrstor<true, true>;
      break;
    default:
      return nullptr;
  }
  operation.native = &state_layout(cpu.cpuid);
  return handler;
}

}  // namespace limen::soft::interpret::native
