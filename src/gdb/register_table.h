// The table behind registers.h: names, sizes and types by gdb's "standard target features" (GDB
// manual, G.5.5), and system registers by the names that QEMU's users know.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace limen::gdb {

enum class RegisterKind : uint8_t {
  kGeneral,
  kRip,
  kFlags,
  kSegment,
  kFloat,
  kFloatControl,
  kXmm,
  kYmmHigh,
  kSystem,
};
enum class FloatControl : uint8_t {
  kFctrl,
  kFstat,
  kFtag,
  kFiseg,
  kFioff,
  kFoseg,
  kFooff,
  kFop,
  kMxcsr,
};
enum class SystemRegister : uint8_t {
  kFsBase,
  kGsBase,
  kKernelGsBase,
  kCr0,
  kCr2,
  kCr3,
  kCr4,
  kCr8,
  kEfer,
};

struct Register {
  std::string name;
  unsigned bits;
  std::string type;
  std::string group;  ///< "": gdb's choice.
  RegisterKind kind;
  uint8_t index;  ///< Among its kind.
};

/// In the order of their numbers.
[[nodiscard]] const std::vector<Register>& register_table();

}  // namespace limen::gdb
