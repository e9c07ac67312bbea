// The sixteen conditions of Jcc, SETcc and CMOVcc (SDM Vol. 1 appendix B).
#pragma once

#include "soft/cpu.h"

namespace limen::soft::interpret {

/// True if condition number `kCondition` (the low four bits of the opcode) holds.
template <unsigned kCondition>
bool holds(const Cpu& cpu) {
  const unsigned low = cpu.flags_low;
  const bool less = ((low >> 7) & 1u) != cpu.flags_overflow;
  bool result = false;
  switch (kCondition >> 1) {
    case 0:
      result = cpu.flags_overflow != 0;
      break;
    case 1:
      result = (low & x86::rflags::kCarry) != 0;
      break;
    case 2:
      result = (low & x86::rflags::kZero) != 0;
      break;
    case 3:
      result = (low & (x86::rflags::kCarry | x86::rflags::kZero)) != 0;
      break;
    case 4:
      result = (low & x86::rflags::kSign) != 0;
      break;
    case 5:
      result = (low & x86::rflags::kParity) != 0;
      break;
    case 6:
      result = less;
      break;
    default:
      result = less || (low & x86::rflags::kZero) != 0;
      break;
  }
  return result != ((kCondition & 1) != 0);
}

/// Calls make.operator()<condition>() with the number as a constant.
template <typename F>
auto with_condition(unsigned condition, F&& make) {
  switch (condition) {
    case 0:
      return make.template operator()<0>();
    case 1:
      return make.template operator()<1>();
    case 2:
      return make.template operator()<2>();
    case 3:
      return make.template operator()<3>();
    case 4:
      return make.template operator()<4>();
    case 5:
      return make.template operator()<5>();
    case 6:
      return make.template operator()<6>();
    case 7:
      return make.template operator()<7>();
    case 8:
      return make.template operator()<8>();
    case 9:
      return make.template operator()<9>();
    case 10:
      return make.template operator()<10>();
    case 11:
      return make.template operator()<11>();
    case 12:
      return make.template operator()<12>();
    case 13:
      return make.template operator()<13>();
    case 14:
      return make.template operator()<14>();
    default:
      return make.template operator()<15>();
  }
}

}  // namespace limen::soft::interpret
