// Writes random programs that are rich in what a translator may get wrong.
#pragma once

#include <optional>

#include "conformance/encoding.h"
#include "conformance/programs/program.h"
#include "conformance/random.h"

namespace limen::conformance {

/// Writes one program. It follows in its head where registers point, as far as that is cheap:
/// enough to aim accesses at the ends of pages.
class Generator {
 public:
  /// Of 64-bit code or of 32-bit code, which has eight registers and no addresses relative to RIP.
  Generator(Random& random, bool supervisor, bool code32 = false) : random_(random) {
    program_.supervisor = supervisor;
    program_.code32 = code32;
  }
  Program generate();

 private:
  struct Use {
    unsigned size = 8;
    bool writes = false;
    bool locked = false;   ///< Not across cache lines.
    bool aligned = false;  ///< Mostly at a multiple of its size.
    unsigned immediate = 0;
  };

  // generator.cc
  void choose_start();
  void region(unsigned count);
  void instruction();
  void finish();

  // address.cc: memory operands.
  [[nodiscard]] bool is_mapped(int64_t offset, const Use& use) const;
  [[nodiscard]] int32_t choose_target(const Use& use, std::optional<int32_t> near);
  void address(Encoding& encoding, const Use& use, Piece& piece);
  /// [base + displacement], with an index if there is one.
  static void set_base(Encoding& encoding, uint8_t base, int32_t displacement, bool wide);
  void memory(Encoding encoding, const Use& use);

  // Registers.
  [[nodiscard]] uint8_t any() {
    return static_cast<uint8_t>(random_.below(program_.code32 ? 8 : 16));
  }
  /// Bytes of an address.
  [[nodiscard]] int32_t word() const { return program_.code32 ? 4 : 8; }
  [[nodiscard]] std::optional<uint8_t> pointer();
  [[nodiscard]] std::optional<uint8_t> small();
  /// One to write to: seldom a pointer, never the counter or RSP.
  [[nodiscard]] uint8_t destination();
  void forget(uint8_t reg);
  /// The operand size's prefixes, and the opcode's low bit for what is no byte.
  static void set_size(Encoding& encoding, unsigned size, uint8_t opcode);
  unsigned choose_size();
  /// A byte register for ModRM.reg that is (part of) a register that may be written.
  void set_byte_register(Encoding& encoding, bool written);

  void put(const Encoding& encoding, unsigned immediate, Piece piece);
  /// 32-bit code goes without a REX that the bytes begin with.
  void raw(std::initializer_list<unsigned> bytes);
  /// CMP behind the last instruction, as a part of it: the flags that it leaves are not defined,
  /// and they differ with the form in which a processor runs it.
  void define_flags();
  void raw32(std::initializer_list<unsigned> bytes, int32_t value, Fix fix = Fix::kNone,
             int32_t target = 0);
  /// op reg, rm on registers.
  void registers(uint8_t opcode, unsigned size, uint8_t reg, uint8_t rm, uint8_t map = 0);

  // integer.cc
  void move();
  void arithmetic();
  void unary();
  void shift();
  void locked();
  void extend();
  void bit_test();
  void on_registers();
  void flag_reader();
  void adjust_pointer();
  void string();
  void bit_manipulation();

  // stack.cc
  void push_pop();
  void flags_on_stack();
  void adjust_stack();
  void frame();

  // vector.cc
  void sse();
  void vex();
  void evex();
  void control_word();

  // x87.cc
  void x87();
  void x87_instruction();

  // control.cc
  void forward_branch();
  void backward_branch();
  void walk();
  void call();
  void jump_table();
  void modify_self();
  void system();
  [[nodiscard]] int32_t here() const { return static_cast<int32_t>(program_.pieces.size()); }

  Random& random_;
  Program program_;
  std::array<std::optional<int32_t>, 16> pointers_;
  std::array<std::optional<int32_t>, 16> small_;
  uint8_t counter_ = 0;
  unsigned functions_ = 0;    // that exist
  unsigned next_callee_ = 0;  // functions from here on may be called from here
  int32_t region_start_ = 0;
  std::vector<int32_t> function_starts_;
  std::vector<size_t> calls_;  // pieces whose target is a function's number
};

}  // namespace limen::conformance
