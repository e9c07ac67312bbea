#include "gdb/register_table.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "gdb/registers.h"

namespace limen::gdb {
namespace {

constexpr std::string_view kCore = "org.gnu.gdb.i386.core", kSse = "org.gnu.gdb.i386.sse",
                           kSegments = "org.gnu.gdb.i386.segments", kAvx = "org.gnu.gdb.i386.avx",
                           kSystem = "org.limen.i386.system";

/// Registers that belong together, and the types that only they have.
struct Feature {
  std::string_view name;
  std::string types;
  std::vector<Register> registers;
};

struct Bit {
  std::string_view name;
  unsigned first;
  unsigned last;
};

std::string flags_type(std::string_view id, unsigned size, std::span<const Bit> bits) {
  std::string text = fmt::format("<flags id=\"{}\" size=\"{}\">\n", id, size);
  for (const Bit& bit : bits)
    text += fmt::format("<field name=\"{}\" start=\"{}\" end=\"{}\"/>\n", bit.name, bit.first,
                        bit.last);
  return text + "</flags>\n";
}

constexpr std::array<Bit, 17> kEflags = {{{"CF", 0, 0},
                                          {"", 1, 1},
                                          {"PF", 2, 2},
                                          {"AF", 4, 4},
                                          {"ZF", 6, 6},
                                          {"SF", 7, 7},
                                          {"TF", 8, 8},
                                          {"IF", 9, 9},
                                          {"DF", 10, 10},
                                          {"OF", 11, 11},
                                          {"NT", 14, 14},
                                          {"RF", 16, 16},
                                          {"VM", 17, 17},
                                          {"AC", 18, 18},
                                          {"VIF", 19, 19},
                                          {"VIP", 20, 20},
                                          {"ID", 21, 21}}};
constexpr std::array<Bit, 14> kMxcsr = {{{"IE", 0, 0},
                                         {"DE", 1, 1},
                                         {"ZE", 2, 2},
                                         {"OE", 3, 3},
                                         {"UE", 4, 4},
                                         {"PE", 5, 5},
                                         {"DAZ", 6, 6},
                                         {"IM", 7, 7},
                                         {"DM", 8, 8},
                                         {"ZM", 9, 9},
                                         {"OM", 10, 10},
                                         {"UM", 11, 11},
                                         {"PM", 12, 12},
                                         {"FZ", 15, 15}}};
constexpr std::array<Bit, 11> kCr0 = {{{"PE", 0, 0},
                                       {"MP", 1, 1},
                                       {"EM", 2, 2},
                                       {"TS", 3, 3},
                                       {"ET", 4, 4},
                                       {"NE", 5, 5},
                                       {"WP", 16, 16},
                                       {"AM", 18, 18},
                                       {"NW", 29, 29},
                                       {"CD", 30, 30},
                                       {"PG", 31, 31}}};
constexpr std::array<Bit, 18> kCr4 = {{{"VME", 0, 0},
                                       {"PVI", 1, 1},
                                       {"TSD", 2, 2},
                                       {"DE", 3, 3},
                                       {"PSE", 4, 4},
                                       {"PAE", 5, 5},
                                       {"MCE", 6, 6},
                                       {"PGE", 7, 7},
                                       {"PCE", 8, 8},
                                       {"OSFXSR", 9, 9},
                                       {"OSXMMEXCPT", 10, 10},
                                       {"UMIP", 11, 11},
                                       {"LA57", 12, 12},
                                       {"FSGSBASE", 16, 16},
                                       {"PCIDE", 17, 17},
                                       {"OSXSAVE", 18, 18},
                                       {"SMEP", 20, 20},
                                       {"SMAP", 21, 21}}};
constexpr std::array<Bit, 4> kEfer = {
    {{"SCE", 0, 0}, {"LME", 8, 8}, {"LMA", 10, 10}, {"NXE", 11, 11}}};

/// What an XMM register is looked at as, by the names that gdb's own descriptions have.
std::string vector_types() {
  struct View {
    std::string_view id, element, field;
    unsigned count;
  };
  constexpr std::array<View, 6> kViews = {{{"v4f", "ieee_single", "v4_float", 4},
                                           {"v2d", "ieee_double", "v2_double", 2},
                                           {"v16i8", "int8", "v16_int8", 16},
                                           {"v8i16", "int16", "v8_int16", 8},
                                           {"v4i32", "int32", "v4_int32", 4},
                                           {"v2i64", "int64", "v2_int64", 2}}};
  std::string vectors, fields;
  for (const View& view : kViews) {
    vectors += fmt::format("<vector id=\"{}\" type=\"{}\" count=\"{}\"/>\n", view.id, view.element,
                           view.count);
    fields += fmt::format("<field name=\"{}\" type=\"{}\"/>\n", view.field, view.id);
  }
  return vectors + "<union id=\"vec128\">\n" + fields +
         "<field name=\"uint128\" type=\"uint128\"/>\n</union>\n";
}

Feature core() {
  Feature feature{kCore, flags_type("i386_eflags", 4, kEflags), {}};
  auto& registers = feature.registers;
  constexpr std::array<std::string_view, 16> kGeneral = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi",
                                                         "rbp", "rsp", "r8",  "r9",  "r10", "r11",
                                                         "r12", "r13", "r14", "r15"};
  uint8_t index = 0;
  for (const auto name : kGeneral) {
    const bool pointer = name == "rbp" || name == "rsp";
    registers.push_back({std::string(name), 64, pointer ? "data_ptr" : "int64", "",
                         RegisterKind::kGeneral, index++});
  }
  registers.push_back({"rip", 64, "code_ptr", "", RegisterKind::kRip, 0});
  registers.push_back({"eflags", 32, "i386_eflags", "", RegisterKind::kFlags, 0});
  index = 0;
  for (const auto* name : {"cs", "ss", "ds", "es", "fs", "gs"})
    registers.push_back({name, 32, "int32", "", RegisterKind::kSegment, index++});
  for (uint8_t i = 0; i < 8; ++i)
    registers.push_back({fmt::format("st{}", i), 80, "i387_ext", "", RegisterKind::kFloat, i});
  index = 0;
  for (const auto* name : {"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"})
    registers.push_back({name, 32, "int", "float", RegisterKind::kFloatControl, index++});
  return feature;
}

std::vector<Feature> features() {
  std::vector<Feature> all = {core()};
  Feature sse{kSse, vector_types() + flags_type("i386_mxcsr", 4, kMxcsr), {}};
  for (uint8_t i = 0; i < 16; ++i)
    sse.registers.push_back({fmt::format("xmm{}", i), 128, "vec128", "", RegisterKind::kXmm, i});
  sse.registers.push_back({"mxcsr", 32, "i386_mxcsr", "vector", RegisterKind::kFloatControl,
                           static_cast<uint8_t>(FloatControl::kMxcsr)});
  all.push_back(std::move(sse));

  const auto system = [](std::string_view name, std::string_view type, SystemRegister which) {
    return Register{std::string(name),     64,
                    std::string(type),     "system",
                    RegisterKind::kSystem, static_cast<uint8_t>(which)};
  };
  Feature segments{kSegments, "", {}};
  segments.registers = {system("fs_base", "int", SystemRegister::kFsBase),
                        system("gs_base", "int", SystemRegister::kGsBase)};
  // The debugger's own idea of which group they are in is the better one.
  for (auto& base : segments.registers) base.group.clear();
  all.push_back(std::move(segments));

  Feature avx{kAvx, "", {}};
  for (uint8_t i = 0; i < 16; ++i)
    avx.registers.push_back(
        {fmt::format("ymm{}h", i), 128, "uint128", "", RegisterKind::kYmmHigh, i});
  all.push_back(std::move(avx));

  all.push_back(
      {kSystem,
       flags_type("x86_cr0", 8, kCr0) + flags_type("x86_cr4", 8, kCr4) +
           flags_type("x86_efer", 8, kEfer),
       {system("k_gs_base", "int64", SystemRegister::kKernelGsBase),
        system("cr0", "x86_cr0", SystemRegister::kCr0),
        system("cr2", "int64", SystemRegister::kCr2), system("cr3", "int64", SystemRegister::kCr3),
        system("cr4", "x86_cr4", SystemRegister::kCr4),
        system("cr8", "int64", SystemRegister::kCr8),
        system("efer", "x86_efer", SystemRegister::kEfer)}});
  return all;
}

std::string describe() {
  std::string text =
      "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
      "<target version=\"1.0\">\n<architecture>i386:x86-64</architecture>\n";
  for (const Feature& feature : features()) {
    text += fmt::format("<feature name=\"{}\">\n{}", feature.name, feature.types);
    for (const Register& entry : feature.registers) {
      text += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\"", entry.name, entry.bits,
                          entry.type);
      if (!entry.group.empty()) text += fmt::format(" group=\"{}\"", entry.group);
      text += "/>\n";
    }
    text += "</feature>\n";
  }
  return text + "</target>\n";
}

}  // namespace

const std::vector<Register>& register_table() {
  static const std::vector<Register> table = [] {
    std::vector<Register> all;
    for (auto& feature : features())
      all.insert(all.end(), feature.registers.begin(), feature.registers.end());
    return all;
  }();
  return table;
}

const std::string& target_description() {
  static const std::string text = describe();
  return text;
}

}  // namespace limen::gdb
