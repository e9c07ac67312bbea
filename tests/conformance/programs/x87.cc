// x87 and MMX instructions of random programs.
#include "conformance/programs/generator.h"
#include "x86/registers.h"

namespace limen::conformance {
namespace {

// SDM Vol. 2, appendix A.
struct MemoryForm {
  uint8_t map, opcode;
  int8_t extension;  ///< Of the opcode; -1: a register instead.
  uint8_t size;
  bool writes;
};

constexpr MemoryForm kMemory[] = {
    {0, 0xD9, 0, 4, false},                                                   // FLD
    {0, 0xDD, 0, 8, false},  {0, 0xDB, 5, 10, false}, {0, 0xD9, 2, 4, true},  // FST, FSTP
    {0, 0xDD, 2, 8, true},   {0, 0xD9, 3, 4, true},   {0, 0xDD, 3, 8, true},
    {0, 0xDB, 7, 10, true},  {0, 0xDF, 0, 2, false},                          // FILD
    {0, 0xDB, 0, 4, false},  {0, 0xDF, 5, 8, false},  {0, 0xDF, 2, 2, true},  // FIST, FISTP, FISTTP
    {0, 0xDB, 3, 4, true},   {0, 0xDF, 7, 8, true},   {0, 0xDD, 1, 8, true},
    {0, 0xD8, 0, 4, false},  // FADD, FMUL, FCOMP, FDIVR and others
    {0, 0xDC, 1, 8, false},  {0, 0xDC, 3, 8, false},  {0, 0xD8, 7, 4, false},
    {0, 0xDA, 4, 4, false},  {0, 0xDE, 6, 2, false},  {0, 0xDF, 4, 10, false},  // FBLD, FBSTP
    {0, 0xDF, 6, 10, true},  {0, 0xD9, 7, 2, true},                             // FNSTCW
    {0, 0xDD, 7, 2, true},                                                      // FNSTSW
    {1, 0x6F, -1, 8, false},                                                    // MOVQ
    {1, 0x7F, -1, 8, true},  {1, 0x6E, -1, 4, false},                           // MOVD
    {1, 0x7E, -1, 4, true},  {1, 0xFD, -1, 8, false},  // PADDW, PMULLW, PXOR
    {1, 0xD5, -1, 8, false}, {1, 0xEF, -1, 8, false}, {1, 0x2A, -1, 8, false},  // CVTPI2PS
    {1, 0xE7, -1, 8, true},                                                     // MOVNTQ
};

/// A run of second bytes that are instructions on registers.
struct RegisterForms {
  uint8_t opcode, first, count;
};

constexpr RegisterForms kRegisters[] = {
    {0xD8, 0xC0, 64},                                                        // arithmetic
    {0xDC, 0xC0, 64}, {0xDE, 0xC0, 16}, {0xDE, 0xE0, 32}, {0xD9, 0xC0, 17},  // FLD, FXCH, FNOP
    {0xD9, 0xE8, 7},                                                         // FLD1 to FLDZ
    {0xD9, 0xE0, 2},                                                         // FCHS, FABS
    {0xD9, 0xE4, 2},                                                         // FTST, FXAM
    {0xD9, 0xF0, 16},                                                        // F2XM1 to FCOS
    {0xDA, 0xC0, 32},                                                        // FCMOVcc
    {0xDB, 0xC0, 32}, {0xDB, 0xE2, 2},                                       // FNCLEX, FNINIT
    {0xDB, 0xE8, 16},                                                        // FUCOMI, FCOMI
    {0xDF, 0xE8, 16}, {0xDD, 0xC0, 8},                                       // FFREE
    {0xDD, 0xD0, 32},                                                        // FST, FSTP, FUCOM
};

}  // namespace

// In rows, of which what follows an exception that is not masked is a part.
void Generator::x87() {
  for (auto left = 1 + random_.below(4); left != 0; --left) x87_instruction();
}

void Generator::x87_instruction() {
  const auto roll = random_.below(100);
  if (roll < 6) return raw({0x0F, 0x77});  // EMMS
  if (roll < 9) return raw({0x9B});        // FWAIT
  if (roll < 12) {
    if (counter_ == x86::kRax || pointers_[x86::kRax]) return;
    raw({0xDF, 0xE0});  // FNSTSW AX
    return forget(x86::kRax);
  }
  Encoding encoding;
  if (roll < 14) {
    // FNSTENV: operating systems may lose the pointers that it shows.
    program_.native = false;
    encoding.opcode = 0xD9;
    encoding.reg = 6;
    return memory(encoding, {.size = 28, .writes = true});
  }
  if (roll < 16) {  // FLDCW of whatever is there
    encoding.opcode = 0xD9;
    encoding.reg = 5;
    return memory(encoding, {.size = 2});
  }
  if (roll < 50) {
    const RegisterForms& forms = kRegisters[random_.below(std::size(kRegisters))];
    return raw({forms.opcode, forms.first + static_cast<unsigned>(random_.below(forms.count))});
  }
  const MemoryForm& form = kMemory[random_.below(std::size(kMemory))];
  encoding.map = form.map;
  encoding.opcode = form.opcode;
  encoding.reg = form.extension >= 0 ? static_cast<uint8_t>(form.extension)
                                     : static_cast<uint8_t>(random_.below(8));
  memory(encoding, {.size = form.size, .writes = form.writes});
}

}  // namespace limen::conformance
