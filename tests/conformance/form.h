// Instruction forms: what the decoder's tables tell apart. Two encodings are of one form when they
// differ in register numbers, addressing and immediate values only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conformance/encoding.h"

namespace limen::conformance {

struct Form {
  uint64_t key = 0;
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  std::string name;  ///< For people: "vaddps zmm {k}, zmm, m512 [evex 0f 58]".
  /// A few encodings that differ in fields a trial does not vary.
  std::vector<Encoding> encodings;
};

/// A part of the encoding space, small enough for one test.
struct Section {
  const char* name;
  soft::decode::CodeMode mode;
  Scheme scheme;
  uint8_t map;
};

/// All of the encoding space that is walked.
[[nodiscard]] const std::vector<Section>& sections();

/// Every form in the section, in the order in which the walk met them.
[[nodiscard]] std::vector<Form> enumerate_forms(const Section& section);

/// A hash of what makes the form.
[[nodiscard]] uint64_t form_key(const soft::decode::Instruction& instruction);
[[nodiscard]] std::string form_name(const soft::decode::Instruction& instruction);

}  // namespace limen::conformance
