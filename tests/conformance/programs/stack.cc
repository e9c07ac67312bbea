// Stack instructions of random programs.
#include <cstring>

#include "conformance/programs/generator.h"
#include "conformance/values.h"
#include "x86/registers.h"

namespace limen::conformance {

using x86::kRsp;

void Generator::push_pop() {
  auto& top = *pointers_[kRsp];
  // As many of the one as of the other, in the long run.
  const bool push = random_.percent(top > static_cast<int32_t>(kDataOffset + kPage) ? 65 : 35);
  Encoding encoding;
  const auto form = random_.below(10);
  if (form < 2) {  // m
    encoding.opcode = push ? 0xFF : 0x8F;
    encoding.reg = push ? 6 : 0;
    memory(encoding, {.size = static_cast<unsigned>(word()), .writes = !push});
  } else if (form == 2 && push) {
    if (random_.percent(50))
      raw({0x6A, static_cast<unsigned>(random_.next() & 0xFF)});
    else
      raw32({0x68}, static_cast<int32_t>(random_integer(random_)));
  } else if (form == 3) {  // 16 bits
    const uint8_t reg = push ? any() : destination();
    if (!push) forget(reg);
    if (reg > 7)
      raw({0x66, 0x41, (push ? 0x50u : 0x58u) | (reg & 7u)});
    else
      raw({0x66, (push ? 0x50u : 0x58u) | reg});
    top += push ? -2 : 2;
    return;
  } else {
    const uint8_t reg = push ? any() : destination();
    if (!push) forget(reg);
    if (reg > 7)
      raw({0x41, (push ? 0x50u : 0x58u) | (reg & 7u)});
    else
      raw({(push ? 0x50u : 0x58u) | reg});
  }
  top += push ? -word() : word();
}

void Generator::flags_on_stack() {
  if (random_.percent(50)) {
    raw({0x9C});
    raw({0x9D});
    return;
  }
  raw({0x9C});
  *pointers_[kRsp] -= word();
  move();
  if (random_.percent(60)) {
    raw({0x9D});
    *pointers_[kRsp] += word();
  }
}

void Generator::adjust_stack() {
  auto& top = *pointers_[kRsp];
  const bool is_high = top > static_cast<int32_t>(kDataOffset + kPage);
  auto step = static_cast<int32_t>(random_.between(1, 10)) * word() * (is_high ? -1 : 1);
  if (random_.percent(8)) step += static_cast<int32_t>(random_.between(-7, 7));
  const bool has_frame = counter_ != x86::kRbp;
  switch (random_.below(7)) {
    case 0:
    case 1:  // ADD, SUB
      raw({0x48, 0x83, step > 0 ? 0xC4u : 0xECu,
           static_cast<unsigned>(step > 0 ? step : -step) & 0x7F});
      top += step;
      break;
    case 2:  // LEA RSP, [RSP + d]
      raw32({0x48, 0x8D, 0xA4, 0x24}, step);
      top += step;
      break;
    case 3:  // LEA RBP, [RSP + d]
      if (!has_frame) return;
      raw32({0x48, 0x8D, 0xAC, 0x24}, step);
      forget(x86::kRbp);
      pointers_[x86::kRbp] = top + step;
      break;
    case 4:  // MOV RBP, RSP
      if (!has_frame) return;
      raw({0x48, 0x89, 0xE5});
      forget(x86::kRbp);
      pointers_[x86::kRbp] = top;
      break;
    case 5:  // MOV RSP, RBP; LEAVE
      if (!has_frame || !pointers_[x86::kRbp] || random_.percent(50)) return;
      if (random_.percent(50)) {
        raw({0x48, 0x89, 0xEC});
        top = *pointers_[x86::kRbp];
      } else {
        raw({0xC9});
        top = *pointers_[x86::kRbp] + word();
        forget(x86::kRbp);
      }
      break;
    default:  // AND RSP, -16
      raw({0x48, 0x83, 0xE4, 0xF0});
      top &= -16;
      break;
  }
}

void Generator::frame() {
  raw({0x55});
  raw({0x48, 0x89, 0xE5});
  *pointers_[kRsp] -= 2 * word();  // the return address and RBP
  forget(x86::kRbp);
  pointers_[x86::kRbp] = *pointers_[kRsp];
  const auto room = static_cast<unsigned>(random_.below(12)) * static_cast<unsigned>(word());
  raw({0x48, 0x83, 0xEC, room});
  *pointers_[kRsp] -= static_cast<int32_t>(room);
}

}  // namespace limen::conformance
