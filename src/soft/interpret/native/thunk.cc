#include "soft/interpret/native/thunk.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "soft/cpu.h"
#include "soft/interpret/native/code_area.h"
#include "soft/interpret/native/emit.h"
#include "soft/interpret/native/features.h"

namespace limen::soft::interpret::native {
namespace {

/// Serialises the area and the cache; never taken where instructions run, transient thunks
/// excepted.
std::mutex& area_mutex() {
  static std::mutex mutex;
  return mutex;
}

std::mutex& transient_mutex() {
  static std::mutex mutex;
  return mutex;
}

/// Instructions with the same key behave alike. The bytes say everything but which of the guest's
/// registers stand behind the host's.
std::string key_of(const HostInstruction& host) {
  std::string key(reinterpret_cast<const char*>(host.bytes.data()), host.length);
  for (unsigned i = 0; i < host.binding_count; ++i) {
    key.push_back(static_cast<char>(host.bindings[i].guest));
    key.push_back(static_cast<char>(host.bindings[i].host));
  }
  return key;
}

const ZydisDecodedOperand* memory_operand(const decode::Instruction& instruction) {
  for (unsigned i = 0; i < instruction.raw.operand_count; ++i)
    if (instruction.operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY) return &instruction.operands[i];
  return nullptr;
}

/// Whether the memory operand is accessed whole, whatever the mask is (SDM Vol. 2A 2.8, "NF").
bool suppresses_no_fault(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    // The decoder has them in classes without NF.
    case ZYDIS_MNEMONIC_VCVTNE2PS2BF16:
    case ZYDIS_MNEMONIC_VDBPSADBW:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEQB:
    case ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB:
      return instruction.raw.avx.broadcast.mode == ZYDIS_BROADCAST_MODE_INVALID;
    default:
      break;
  }
  switch (instruction.raw.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_E1NF:
    case ZYDIS_EXCEPTION_CLASS_E2NF:
    case ZYDIS_EXCEPTION_CLASS_E3NF:
    case ZYDIS_EXCEPTION_CLASS_E4NF:
    case ZYDIS_EXCEPTION_CLASS_E5NF:
    case ZYDIS_EXCEPTION_CLASS_E6NF:
    case ZYDIS_EXCEPTION_CLASS_E9NF:
    case ZYDIS_EXCEPTION_CLASS_E10NF:
      return true;
    default:
      return false;
  }
}

/// Elements of the vector that a broadcast fills.
uint8_t broadcast_lanes(ZydisBroadcastMode mode) {
  switch (mode) {
    case ZYDIS_BROADCAST_MODE_1_TO_2:
      return 2;
    case ZYDIS_BROADCAST_MODE_1_TO_4:
    case ZYDIS_BROADCAST_MODE_2_TO_4:
      return 4;
    case ZYDIS_BROADCAST_MODE_1_TO_8:
    case ZYDIS_BROADCAST_MODE_2_TO_8:
    case ZYDIS_BROADCAST_MODE_4_TO_8:
      return 8;
    case ZYDIS_BROADCAST_MODE_1_TO_32:
      return 32;
    case ZYDIS_BROADCAST_MODE_1_TO_64:
      return 64;
    default:
      return 16;
  }
}

/// Address bits that the instruction wants to be 0 (SDM Vol. 2A 2.4, types 1, 2 and 4).
uint8_t alignment_mask(const decode::Instruction& instruction, unsigned size) {
  if (instruction.mnemonic() == ZYDIS_MNEMONIC_CVTPD2PI ||
      instruction.mnemonic() == ZYDIS_MNEMONIC_CVTTPD2PI)
    return 15;
  switch (instruction.raw.meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE1:
    case ZYDIS_EXCEPTION_CLASS_AVX1:
    case ZYDIS_EXCEPTION_CLASS_E1:
    case ZYDIS_EXCEPTION_CLASS_E1NF:
      return static_cast<uint8_t>(size - 1);
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE4:
      break;
    default:
      return 0;
  }
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
      return 0;
    default:
      return size == 16 ? 15 : 0;
  }
}

bool waits_for_x87(const decode::Instruction& instruction) {
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FNCLEX:
      return false;
    case ZYDIS_MNEMONIC_CVTPI2PS:
      return memory_operand(instruction) == nullptr;
    default:
      return uses_x87_state(instruction);
  }
}

void describe_masking(const decode::Instruction& instruction, const ZydisDecodedOperand& memory,
                      Thunk& thunk) {
  const auto& raw = instruction.raw;
  thunk.element_size = static_cast<uint8_t>(memory.element_size / 8);
  thunk.lanes = static_cast<uint8_t>(memory.element_count);
  switch (instruction.mnemonic()) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
      thunk.masking = Masking::kSignBits;
      thunk.mask_register = static_cast<uint8_t>(~raw.raw.vex.vvvv & 15);
      if (instruction.mode != decode::CodeMode::k64) thunk.mask_register &= 7;
      return;
    default:
      break;
  }
  if (raw.encoding != ZYDIS_INSTRUCTION_ENCODING_EVEX || raw.raw.evex.aaa == 0 ||
      suppresses_no_fault(instruction)) {
    // Elements that are left out stay as they are.
    if (raw.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && raw.raw.evex.aaa != 0 &&
        thunk.access == Access::kWrite)
      thunk.access = Access::kUpdate;
    return;
  }
  thunk.mask_register = raw.raw.evex.aaa;
  const std::string_view name = ZydisMnemonicGetString(instruction.mnemonic());
  if (name.starts_with("vpcompress") || name.starts_with("vcompress") ||
      name.starts_with("vpexpand") || name.starts_with("vexpand")) {
    thunk.masking = Masking::kPacked;
  } else if (raw.avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID) {
    thunk.masking = Masking::kWhole;
    // Here the mask is for bytes, though quadwords are broadcast.
    const bool by_bytes = instruction.mnemonic() == ZYDIS_MNEMONIC_VGF2P8AFFINEQB ||
                          instruction.mnemonic() == ZYDIS_MNEMONIC_VGF2P8AFFINEINVQB;
    thunk.lanes = by_bytes ? static_cast<uint8_t>(raw.avx.vector_length / 8u)
                           : broadcast_lanes(raw.avx.broadcast.mode);
  } else {
    thunk.masking = Masking::kOpmask;
  }
}

Thunk describe(const decode::Instruction& instruction, const HostInstruction& host) {
  Thunk thunk;
  thunk.x87_opcode = host.x87_opcode;
  thunk.is_noted = x87_use(instruction) == X87::kIsNoted;
  const ZydisDecodedOperand* memory = memory_operand(instruction);
  if (!memory) return thunk;
  thunk.memory_size = static_cast<uint16_t>(memory->size / 8);
  const bool reads = (memory->actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
  const bool writes = (memory->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
  thunk.access = !writes ? Access::kRead : reads ? Access::kUpdate : Access::kWrite;
  thunk.alignment = alignment_mask(instruction, thunk.memory_size);
  // SDM Vol. 2A 2.4, type 11.
  thunk.any_alignment = instruction.raw.meta.exception_class == ZYDIS_EXCEPTION_CLASS_E11 ||
                        instruction.raw.meta.exception_class == ZYDIS_EXCEPTION_CLASS_AVX11;
  thunk.waits = waits_for_x87(instruction);
  thunk.computes_first = instruction.mnemonic() == ZYDIS_MNEMONIC_VCVTPS2PH;
  describe_masking(instruction, *memory, thunk);
  return thunk;
}

void write_code(const decode::Instruction& instruction, const HostInstruction& host, const Cpu& cpu,
                std::span<std::byte> where, Thunk& thunk) {
  const EmittedThunk emitted = emit_thunk(instruction, host, cpu, where);
  const uint8_t* start =
      CodeArea::instance().commit(where, emitted.size, emitted.instruction, emitted.recovery);
  thunk.code = reinterpret_cast<Thunk::Code>(reinterpret_cast<uintptr_t>(start));
  thunk.instruction = start + emitted.instruction;
}

}  // namespace

const Thunk* find_thunk(const decode::Instruction& instruction, const Cpu& cpu, bool plain_scan,
                        bool& full) {
  full = false;
  const auto host = rewrite(instruction, plain_scan);
  if (!host) return nullptr;
  static auto& thunks = *new std::unordered_map<std::string, std::unique_ptr<Thunk>>;
  const std::lock_guard lock(area_mutex());
  std::string key = key_of(*host);
  if (const auto found = thunks.find(key); found != thunks.end()) return found->second.get();
  const std::span<std::byte> where = CodeArea::instance().next(kMaxThunkSize);
  if (where.empty()) {
    full = true;
    return nullptr;
  }
  auto thunk = std::make_unique<Thunk>(describe(instruction, *host));
  write_code(instruction, *host, cpu, where, *thunk);
  return thunks.emplace(std::move(key), std::move(thunk)).first->second.get();
}

TransientThunk::TransientThunk(const decode::Instruction& instruction, const Cpu& cpu,
                               bool plain_scan) {
  transient_mutex().lock();
  // find_thunk() has seen that it can be rewritten.
  const auto host = rewrite(instruction, plain_scan);
  thunk_ = describe(instruction, *host);
  {
    const std::lock_guard lock(area_mutex());
    write_code(instruction, *host, cpu, CodeArea::instance().transient(), thunk_);
  }
  // The same place held other code a moment ago, written through another address: serialise
  // (SDM Vol. 3A 8.1.3).
  uint32_t eax = 0, ebx, ecx = 0, edx;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx)::"memory");
}

TransientThunk::~TransientThunk() { transient_mutex().unlock(); }

}  // namespace limen::soft::interpret::native
