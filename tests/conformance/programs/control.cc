// Control transfers, self-modification and system instructions of random programs.
#include <algorithm>
#include <cstring>

#include "conformance/programs/generator.h"
#include "conformance/values.h"
#include "x86/registers.h"

namespace limen::conformance {

void Generator::forward_branch() {
  const int32_t target = here() + 1 + static_cast<int32_t>(random_.below(7));
  const auto condition = static_cast<unsigned>(random_.below(16));
  const auto roll = random_.below(20);
  if (roll < 2) {
    raw32({0xE9}, 0, Fix::kBranch32, target);
  } else if (roll == 2) {  // JRCXZ
    raw({0xE3, 0});
    program_.pieces.back().fix = Fix::kBranch8;
    program_.pieces.back().target = here() + static_cast<int32_t>(random_.below(3));
  } else if (roll < 10) {
    raw({0x70 | condition, 0});
    program_.pieces.back().fix = Fix::kBranch8;
    program_.pieces.back().target = here() + static_cast<int32_t>(random_.below(4));
  } else {
    raw32({0x0F, 0x80 | condition}, 0, Fix::kBranch32, target);
  }
}

// The counter's only way is down, and no branch leads between its step and the jump.
void Generator::backward_branch() {
  if (here() == region_start_) return;
  const auto length = static_cast<int32_t>(random_.below(16));
  const int32_t target = std::max(region_start_, here() - 1 - length);
  if (counter_ == x86::kRcx && random_.percent(60)) {
    // JRCXZ over LEA RCX, [RCX - 1]; JMP back: leaves the flags alone
    if (program_.code32)
      raw32({0xE3, 8, 0x8D, 0x49, 0xFF, 0xE9}, 0, Fix::kBranch32, target);
    else
      raw32({0xE3, 9, 0x48, 0x8D, 0x49, 0xFF, 0xE9}, 0, Fix::kBranch32, target);
    return;
  }
  const unsigned rex = counter_ > 7 ? 0x49 : 0x48;
  raw32({rex, 0xFF, 0xC8u | (counter_ & 7u), 0x0F, 0x8F}, 0, Fix::kBranch32, target);
}

// A loop through memory, mostly across the end of a page. Nothing in it leads out, so that the
// counter, set anew, does not bring a loop around it back.
void Generator::walk() {
  static constexpr std::array<int32_t, 16> kSteps = {1,  -1, 2,   4,  -4,  8,  8,   -8,
                                                     16, 16, -16, 32, -32, 64, -64, 200};
  static constexpr std::array kBodies = {
      &Generator::move, &Generator::move, &Generator::arithmetic,  &Generator::extend,
      &Generator::sse,  &Generator::vex,  &Generator::on_registers};
  const uint8_t reg = *pointer();
  if (reg == x86::kRsp) return;
  const auto rounds = static_cast<int32_t>(2 + random_.below(60));
  const int32_t step = kSteps[random_.below(kSteps.size())];
  const unsigned high = counter_ > 7 ? 1 : 0;
  raw32({0x48u | high, 0xC7, 0xC0u | (counter_ & 7u)}, rounds);
  const int32_t start = here();
  for (uint64_t i = 1 + random_.below(4); i > 0; --i)
    (this->*kBodies[random_.below(kBodies.size())])();
  raw32({reg > 7 ? 0x49u : 0x48u, 0x81, 0xC0u | (reg & 7u)}, step);  // ADD reg, step
  raw32({0x48u | high, 0xFF, 0xC8u | (counter_ & 7u), 0x0F, 0x8F}, 0, Fix::kBranch32, start);
  if (pointers_[reg]) *pointers_[reg] += step * rounds;
}

void Generator::call() {
  if (next_callee_ >= functions_) return;
  const auto callee = static_cast<int32_t>(next_callee_ + random_.below(functions_ - next_callee_));
  const auto form = random_.below(4);
  const auto remember = [&] { calls_.push_back(program_.pieces.size() - 1); };
  if (form < 2) {
    raw32({0xE8}, 0, Fix::kBranch32, callee);
    remember();
    return;
  }
  if (form == 2 || program_.slots.size() == kSlotCount) {  // LEA r, [f]; CALL r
    const uint8_t reg = destination();
    const bool high = reg > 7;
    raw32({high ? 0x4Cu : 0x48u, 0x8D, 0x05u | (reg & 7u) << 3}, 0, Fix::kCode, callee);
    remember();
    forget(reg);
    if (high)
      raw({0x41, 0xFF, 0xD0u | (reg & 7u)});
    else
      raw({0xFF, 0xD0u | reg});
    return;
  }
  program_.slots.push_back(-1 - callee);
  raw32({0xFF, 0x15}, 0, Fix::kWindow,
        static_cast<int32_t>(kSlots + 8 * (program_.slots.size() - 1)));
}

void Generator::jump_table() {
  if (program_.slots.size() + 4 > kSlotCount) return;
  const uint8_t index = destination();
  forget(index);
  uint8_t table = destination();
  if (table == index) return;
  forget(table);
  const auto first = static_cast<int32_t>(kSlots + 8 * program_.slots.size());
  if (random_.percent(70)) registers(0x8B, 4, index, any());
  raw({0x41u - (index < 8 ? 1u : 0u), 0x83, 0xE0u | (index & 7u), 3});  // AND index, 3
  raw32({table > 7 ? 0x4Cu : 0x48u, 0x8D, 0x05u | (table & 7u) << 3}, 0, Fix::kWindow, first);
  Encoding encoding;
  const bool calls = random_.percent(15);
  encoding.opcode = 0xFF;
  encoding.reg = calls ? 2 : 4;
  encoding.index = index;
  encoding.scale = 3;
  set_base(encoding, table, 0, false);
  put(encoding, 0, {});
  for (unsigned i = 0; i < 4; ++i)
    program_.slots.push_back(here() + static_cast<int32_t>(random_.below(6)));
}

void Generator::modify_self() {
  // What is to be changed: an instruction with an immediate value at its end, or one of four bytes
  // that may become another of four.
  const bool whole = random_.percent(40);
  const auto three = [&](uint8_t to) -> uint32_t {
    static constexpr std::array<uint8_t, 6> kOpcodes = {0x03, 0x2B, 0x33, 0x23, 0x0B, 0x13};
    const uint8_t from = any();
    const uint32_t prefix =
        program_.code32 ? 0x3E : 0x48u | (to > 7 ? 4u : 0u) | (from > 7 ? 1u : 0u);  // DS or REX
    return prefix | uint32_t{kOpcodes[random_.below(kOpcodes.size())]} << 8 |
           (0xC0u | (to & 7u) << 3 | (from & 7u)) << 16 | 0x9000'0000u;
  };
  const uint8_t to = destination();
  const auto put_target = [&] {
    forget(to);
    if (whole) {
      const uint32_t bytes = three(to);
      raw({bytes & 0xFF, bytes >> 8 & 0xFF, bytes >> 16 & 0xFF, bytes >> 24});
    } else {  // ADD or MOV r, imm32
      raw32({to > 7 ? 0x49u : 0x48u, random_.percent(50) ? 0xC7u : 0x81u, 0xC0u | (to & 7u)},
            static_cast<int32_t>(random_.next()));
    }
  };
  const bool jumps = random_.percent(75);
  const bool backward = random_.percent(25);
  int32_t target = here();
  if (backward) {
    put_target();
    if (random_.percent(50)) on_registers();
  } else {
    const auto gap = static_cast<int32_t>(random_.below(3));
    target = here() + 1 + (jumps ? 1 : 0) + gap;
    // Written below, behind the store; `gap` others come first.
  }
  const int32_t addend = whole ? 0 : program_.code32 ? 2 : 3;
  const auto store = [&](std::initializer_list<unsigned> opcode, unsigned immediate_size,
                         uint32_t immediate, int32_t beyond) {
    raw32(opcode, 0, Fix::kCode, target);
    Piece& piece = program_.pieces.back();
    piece.addend = beyond;
    std::memcpy(&piece.bytes[piece.size], &immediate, 4);
    piece.size = static_cast<uint8_t>(piece.size + immediate_size);
  };
  const auto value = static_cast<uint32_t>(random_.next());
  switch (random_.below(whole ? 2 : 6)) {
    case 0:  // MOV m32, imm
      store({0xC7, 0x05}, 4, whole ? three(to) : value, addend);
      break;
    case 1:  // the same bytes again: MOVUPS there and back
      store({0x0F, 0x10, 0x05}, 0, 0, addend - 6);
      program_.pieces.back().target += backward ? 0 : 1;
      store({0x0F, 0x11, 0x05}, 0, 0, addend - 6);
      if (!backward) program_.pieces.back().target = ++target;
      break;
    case 2:  // MOV m32, r
      store({0x89, 0x05u | static_cast<unsigned>(random_.below(8)) << 3}, 0, 0, addend);
      break;
    case 3:  // MOV m8, imm
      store({0xC6, 0x05}, 1, value, addend + static_cast<int32_t>(random_.below(4)));
      break;
    case 4:  // ADD m32, imm8
      store({0x83, 0x05}, 1, value, addend);
      break;
    default:  // INC m8
      store({0xFE, 0x05}, 0, 0, addend);
      break;
  }
  if (jumps)
    raw32({0xE9}, 0, Fix::kBranch32, here() + 1);
  else
    program_.native = false;
  if (backward) return;
  while (here() < target) {
    // Exactly one piece each.
    const uint8_t other = destination();
    forget(other);
    registers(0x03, 8, other, any());
  }
  put_target();
}

void Generator::system() {
  if (!program_.supervisor) {
    if (!program_.code32 && random_.percent(20)) {  // RDFSBASE, RDGSBASE
      const uint8_t reg = destination();
      forget(reg);
      raw({0xF3, reg > 7 ? 0x49u : 0x48u, 0x0F, 0xAE,
           0xC0u | static_cast<unsigned>(random_.below(2)) << 3 | (reg & 7u)});
    }
    return;
  }
  switch (random_.below(8)) {
    case 0:
    case 1:
      return raw({0x0F, 0x01, 0xCB});  // STAC
    case 2:
      return raw({0x0F, 0x01, 0xCA});  // CLAC
    case 3:
      return raw({0xFA});  // CLI
    case 4:
      return raw({0xFB});  // STI
    case 5:
      if (program_.code32) return raw({0xFA});
      return raw({0x0F, 0x01, 0xF8});  // SWAPGS
    case 6: {                          // MOV r, CR0 to CR4
      const uint8_t reg = destination();
      forget(reg);
      static constexpr std::array<uint8_t, 3> kRegisters = {0, 3, 4};
      return raw({reg > 7 ? 0x41u : 0x40u, 0x0F, 0x20,
                  0xC0u | unsigned{kRegisters[random_.below(3)]} << 3 | (reg & 7u)});
    }
    default:  // PUSHF, CLI, ..., POPF
      raw({0x9C});
      raw({0xFA});
      raw({0x9D});
      return;
  }
}

}  // namespace limen::conformance
