// A processor over a little memory, on which single instructions are run.
#pragma once

#include <cpuid.h>
#include <gtest/gtest.h>
#include <xbyak/xbyak.h>

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "soft/cpu.h"
#include "soft/interpret/select.h"
#include "vcpu/no_interrupts.h"

namespace limen::soft::interpret::native {

/// What the processor under the test says of itself.
inline x86::CpuidTable host_cpuid() {
  x86::CpuidTable table;
  const auto add = [&](uint32_t leaf, uint32_t subleaf, bool indexed) {
    x86::CpuidResult result;
    __cpuid_count(leaf, subleaf, result.eax, result.ebx, result.ecx, result.edx);
    table.set(leaf, subleaf, indexed, result);
  };
  add(1, 0, false);
  for (uint32_t i = 0; i < 2; ++i) add(7, i, true);
  for (uint32_t i = 0; i < 10; ++i) add(0xD, i, true);
  add(0x80000001, 0, false);
  return table;
}

inline bool host_has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
inline bool host_has_avx2() { return __builtin_cpu_supports("avx2"); }

/// 64-bit mode at CPL 0 over an identity map of kRamSize bytes of RAM; the page tables are at its
/// end. What lies above kRamSize is not mapped.
class Bench {
 public:
  static constexpr uint64_t kRamSize = 4 << 20;
  static constexpr uint64_t kTables = kRamSize - 0x10000;
  static constexpr uint64_t kCode = 0x1000;
  static constexpr uint64_t kData = 0x10000;
  static constexpr uint64_t kUnmapped = 0x20000;  ///< A page without a translation.

  explicit Bench(x86::CpuidTable table = host_cpuid()) : cpuid(std::move(table)) {
    const memory::GuestMemory::Layout layout[] = {{.start = {0}, .size = kRamSize}};
    ram = std::move(memory::GuestMemory::create(layout).value());
    make_page_tables();
    cpu = std::make_unique<Cpu>(*ram, ports, mmio, cpuid, interrupts);
    use_64_bit_mode();
  }

  void use_64_bit_mode() {
    x86::CpuState state = x86::reset_state(0);
    state.system.cr0 = x86::cr0::kProtection | x86::cr0::kPaging | x86::cr0::kNumericError |
                       x86::cr0::kMonitorCoprocessor | x86::cr0::kExtensionType;
    state.system.cr3 = kTables;
    state.system.cr4 =
        x86::cr4::kPae | x86::cr4::kOsfxsr | x86::cr4::kOsxmmexcpt | x86::cr4::kOsxsave;
    state.system.efer = x86::efer::kLme | x86::efer::kLma;
    state.system.xcr0 = 7 | x86::xcr0::kAvx512;
    auto& cs = state.system.segments[x86::kCs];
    cs.attributes = x86::Segment::kPresent | x86::Segment::kNotSystem | x86::Segment::kCode |
                    x86::Segment::kWritable | x86::Segment::kAccessed | x86::Segment::kLong;
    cs.base = 0;
    state.rip = kCode;
    const uint16_t control_word = 0x37F;
    std::memcpy(state.vector.fxsave.data(), &control_word, 2);
    state.vector.fxsave[4] = 0;
    cpu->set_state(state);
  }

  /// 32-bit protected mode with flat segments and the 64-bit bench's other settings.
  void use_32_bit_mode() {
    x86::CpuState state = cpu->state();
    state.system.cr0 &= ~x86::cr0::kPaging;
    state.system.efer = 0;
    for (auto& segment : state.system.segments) {
      segment.base = 0;
      segment.limit = 0xFFFFFFFF;
      segment.attributes = static_cast<uint16_t>((segment.attributes & ~x86::Segment::kLong) |
                                                 x86::Segment::kDefaultBig);
    }
    cpu->set_state(state);
  }

  [[nodiscard]] std::byte* at(uint64_t address) { return ram->span({address}, 1).data(); }
  template <typename T>
  [[nodiscard]] T load(uint64_t address) {
    T value;
    std::memcpy(&value, at(address), sizeof value);
    return value;
  }
  template <typename T>
  void store(uint64_t address, T value) {
    std::memcpy(at(address), &value, sizeof value);
  }

  /// Decodes and runs one instruction; the exception it raised, if any. Bytes that are not an
  /// instruction raise #UD.
  std::optional<x86::Exception> run(const std::vector<uint8_t>& bytes) {
    std::vector<uint8_t> padded = bytes;
    padded.resize(15, 0x90);
    decode::Instruction instruction;
    if (decode::decode(cpu->mode, padded, instruction) != decode::Outcome::kOk)
      return x86::Exception::invalid_opcode();
    Operation operation;
    fill_operation(instruction, operation);
    operation.handler = select_native(instruction, operation, *cpu);
    if (!operation.handler) {
      ADD_FAILURE() << "no handler for " << ZydisMnemonicGetString(instruction.mnemonic());
      return std::nullopt;
    }
    cpu->gpr[kNextRip] = cpu->rip + instruction.length();
    try {
      operation.handler(*cpu, operation);
    } catch (const x86::Exception& exception) {
      return exception;
    }
    return std::nullopt;
  }

  /// The same for what `write` emits.
  std::optional<x86::Exception> run(const std::function<void(Xbyak::CodeGenerator&)>& write) {
    Xbyak::CodeGenerator code(64);
    write(code);
    return run(std::vector<uint8_t>(code.getCode(), code.getCode() + code.getSize()));
  }

  void set_vector(unsigned number, const void* bytes, size_t size) {
    std::memcpy(cpu->vector.zmm[number].data(), bytes, size);
  }
  void fill_vector(unsigned number, uint8_t first) {
    for (size_t i = 0; i < 64; ++i) cpu->vector.zmm[number][i] = static_cast<uint8_t>(first + i);
  }
  template <typename T>
  [[nodiscard]] T lane(unsigned number, unsigned index) const {
    T value;
    std::memcpy(&value, cpu->vector.zmm[number].data() + index * sizeof(T), sizeof value);
    return value;
  }
  template <typename T>
  void set_lane(unsigned number, unsigned index, T value) {
    std::memcpy(cpu->vector.zmm[number].data() + index * sizeof(T), &value, sizeof value);
  }
  template <typename T>
  [[nodiscard]] T image(unsigned offset) const {
    T value;
    std::memcpy(&value, cpu->vector.fxsave.data() + offset, sizeof value);
    return value;
  }
  template <typename T>
  void set_image(unsigned offset, T value) {
    std::memcpy(cpu->vector.fxsave.data() + offset, &value, sizeof value);
  }
  [[nodiscard]] uint32_t mxcsr() const { return image<uint32_t>(24); }

  x86::CpuidTable cpuid;
  std::unique_ptr<memory::GuestMemory> ram;
  memory::IoSpace ports{"ports"};
  memory::IoSpace mmio{"memory"};
  vcpu::NoInterrupts interrupts;
  std::unique_ptr<Cpu> cpu;

 private:
  void make_page_tables() {
    constexpr uint64_t kRights = 7;
    store<uint64_t>(kTables, (kTables + 0x1000) | kRights);
    store<uint64_t>(kTables + 0x1000, (kTables + 0x2000) | kRights);
    for (uint64_t i = 0; i < kRamSize >> 21; ++i) {
      const uint64_t table = kTables + 0x3000 + i * 0x1000;
      store<uint64_t>(kTables + 0x2000 + i * 8, table | kRights);
      for (uint64_t j = 0; j < 512; ++j) {
        const uint64_t page = (i << 21) | (j << 12);
        store<uint64_t>(table + j * 8, page == kUnmapped ? 0 : page | kRights);
      }
    }
  }
};

}  // namespace limen::soft::interpret::native
