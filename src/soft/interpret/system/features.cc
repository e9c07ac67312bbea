#include "soft/interpret/system/features.h"

#include <array>

namespace limen::soft::interpret {
namespace {

enum class Output : uint8_t { kEax, kEbx, kEcx, kEdx };

struct Place {
  uint32_t leaf;
  Output output;
  uint8_t bit;
};

// In the order of Feature.
constexpr std::array kPlaces = {
    Place{1, Output::kEdx, 1},           Place{1, Output::kEdx, 2},
    Place{1, Output::kEdx, 3},           Place{1, Output::kEdx, 4},
    Place{1, Output::kEdx, 5},           Place{1, Output::kEdx, 6},
    Place{1, Output::kEdx, 7},           Place{1, Output::kEdx, 11},
    Place{1, Output::kEdx, 13},          Place{1, Output::kEdx, 19},
    Place{1, Output::kEdx, 24},          Place{1, Output::kEcx, 17},
    Place{1, Output::kEcx, 26},          Place{7, Output::kEbx, 0},
    Place{7, Output::kEbx, 7},           Place{7, Output::kEbx, 10},
    Place{7, Output::kEbx, 20},          Place{7, Output::kEbx, 23},
    Place{7, Output::kEbx, 24},          Place{7, Output::kEcx, 2},
    Place{7, Output::kEcx, 22},          Place{7, Output::kEcx, 25},
    Place{7, Output::kEcx, 31},          Place{0x80000001, Output::kEdx, 11},
    Place{0x80000001, Output::kEdx, 20}, Place{0x80000001, Output::kEdx, 27},
    Place{0x80000001, Output::kEdx, 29}, Place{0x80000008, Output::kEbx, 9},
    Place{0x80000008, Output::kEbx, 0},
};
static_assert(kPlaces.size() == static_cast<size_t>(Feature::kClzero) + 1);

}  // namespace

bool has_feature(const Cpu& cpu, Feature feature) {
  const Place& place = kPlaces[static_cast<size_t>(feature)];
  const x86::CpuidResult* result = cpu.cpuid.find(place.leaf, 0);
  if (result == nullptr) return false;
  const std::array words = {result->eax, result->ebx, result->ecx, result->edx};
  return (words[static_cast<size_t>(place.output)] >> place.bit) & 1;
}

bool is_amd(const Cpu& cpu) {
  const x86::CpuidResult* vendor = cpu.cpuid.find(0, 0);
  constexpr uint32_t kAuthenticAmd = 0x68747541;  // "Auth"
  constexpr uint32_t kHygonGenuine = 0x6F677948;  // "Hygo"
  return vendor != nullptr && (vendor->ebx == kAuthenticAmd || vendor->ebx == kHygonGenuine);
}

}  // namespace limen::soft::interpret
