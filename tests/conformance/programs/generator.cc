#include "conformance/programs/generator.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "x86/registers.h"

namespace limen::conformance {

using x86::kRsp;

// Pointers begin near the ends of pages, where accesses straddle them.
void Generator::choose_start() {
  static constexpr std::array<int32_t, 8> kEdges = {
      kDataOffset + kPage, kDataOffset + kPage, kDataOffset + kPage,      kDataOffset + 2 * kPage,
      kDataOffset,         kLoneOffset,         kLoneOffset + int{kPage}, kDataOffset + 2 * kPage};
  const auto near_edge = [&] {
    const int32_t edge = kEdges[random_.below(kEdges.size())];
    switch (random_.below(4)) {
      case 0:
        return edge + static_cast<int32_t>(random_.between(-40, 8));
      case 1:
        return edge + static_cast<int32_t>(random_.between(-16, 2)) * 8;
      case 2:
        return edge + static_cast<int32_t>(random_.between(-4, 2)) * 64;
      default:
        return static_cast<int32_t>(kDataOffset + random_.below(2 * kPage));
    }
  };
  counter_ = random_.percent(30) ? 1 : any();  // RCX has instructions of its own
  if (counter_ == kRsp) counter_ = x86::kRbx;
  const int32_t stack = static_cast<int32_t>(kDataOffset + kPage);
  pointers_[kRsp] = stack + static_cast<int32_t>(random_.between(-12, 40)) * word();
  if (random_.percent(20)) *pointers_[kRsp] += static_cast<int32_t>(random_.between(-7, 7));
  if (counter_ != x86::kRbp && random_.percent(70))
    pointers_[x86::kRbp] = random_.percent(50)
                               ? *pointers_[kRsp] + static_cast<int32_t>(random_.between(0, 64))
                               : near_edge();
  const unsigned count = 2 + static_cast<unsigned>(random_.below(4));
  for (unsigned i = 0; i < count; ++i) {
    const uint8_t reg = any();
    if (reg != counter_ && !pointers_[reg]) pointers_[reg] = near_edge();
  }
  for (unsigned i = 0; i < 2; ++i) {
    const uint8_t reg = any();
    if (reg != counter_ && !pointers_[reg])
      small_[reg] = static_cast<int32_t>(random_.between(-8, 40));
  }
  program_.expects = {.pointers = pointers_,
                      .small = small_,
                      .counter = counter_,
                      .fs_base = static_cast<int32_t>(random_.between(-64, 64)),
                      .gs_base = near_edge()};
}

Program Generator::generate() {
  choose_start();
  functions_ = static_cast<unsigned>(random_.below(4));
  const unsigned count =
      10 + static_cast<unsigned>(random_.percent(60) ? random_.below(40) : random_.below(150));
  region(count);
  raw({0xCC});
  const auto at_end = pointers_;
  for (unsigned i = 0; i < functions_; ++i) {
    pointers_ = random_.percent(50) ? program_.expects.pointers : at_end;
    next_callee_ = i + 1;
    function_starts_.push_back(here());
    const bool framed = random_.percent(50) && counter_ != x86::kRbp;
    if (framed) frame();
    const int32_t top = *pointers_[kRsp];
    region(1 + static_cast<unsigned>(random_.below(10)));
    if (framed)
      raw({0xC9});  // LEAVE
    else if (*pointers_[kRsp] != top && random_.percent(90))
      raw32({0x48, 0x8D, 0xA4, 0x24}, top - *pointers_[kRsp]);  // LEA RSP, [RSP + d]
    if (random_.percent(10))
      raw({0xC2, static_cast<unsigned>(random_.below(4) * static_cast<unsigned>(word())), 0});
    else
      raw({0xC3});
  }
  finish();
  return std::move(program_);
}

void Generator::region(unsigned count) {
  region_start_ = here();
  while (here() < region_start_ + static_cast<int32_t>(count)) instruction();
  // Branches forward end here at the latest.
  for (int32_t i = region_start_; i < here(); ++i) {
    Piece& piece = program_.pieces[static_cast<size_t>(i)];
    if (piece.fix != Fix::kNone && piece.fix != Fix::kWindow)
      piece.target = std::min(piece.target, here());
  }
  for (int32_t& slot : program_.slots) slot = std::min(slot, here());
}

void Generator::finish() {
  for (const size_t index : calls_) {
    Piece& piece = program_.pieces[index];
    piece.target = function_starts_.at(static_cast<size_t>(piece.target));
  }
  for (int32_t& slot : program_.slots)
    if (slot < 0) slot = function_starts_.at(static_cast<size_t>(-1 - slot));
  // Mostly across the end of the first page.
  const uint32_t size = program_.size();
  if (random_.percent(60) && size > 1)
    program_.start = static_cast<uint32_t>(kPage - random_.below(std::min<uint64_t>(size, kPage)));
  else
    program_.start = static_cast<uint32_t>(random_.below(kCodeSize - size));
}

void Generator::instruction() {
  struct Choice {
    unsigned weight;
    void (Generator::*write)();
  };
  static constexpr std::array<Choice, 30> kChoices = {{
      {150, &Generator::move},
      {110, &Generator::arithmetic},
      {35, &Generator::unary},
      {25, &Generator::shift},
      {30, &Generator::locked},
      {35, &Generator::extend},
      {20, &Generator::bit_test},
      {70, &Generator::on_registers},
      {60, &Generator::flag_reader},
      {80, &Generator::adjust_pointer},
      {25, &Generator::string},
      {15, &Generator::bit_manipulation},
      {90, &Generator::push_pop},
      {12, &Generator::flags_on_stack},
      {35, &Generator::adjust_stack},
      {60, &Generator::sse},
      {40, &Generator::vex},
      {40, &Generator::evex},
      {15, &Generator::x87},
      {6, &Generator::control_word},
      {60, &Generator::forward_branch},
      {25, &Generator::backward_branch},
      {20, &Generator::walk},
      {25, &Generator::call},
      {10, &Generator::jump_table},
      {12, &Generator::modify_self},
      {25, &Generator::system},
      {20, &Generator::adjust_pointer},
      {20, &Generator::move},
      {10, &Generator::adjust_stack},
  }};
  static constexpr unsigned kTotal = [] {
    unsigned total = 0;
    for (const Choice& choice : kChoices) total += choice.weight;
    return total;
  }();
  auto roll = static_cast<unsigned>(random_.below(kTotal));
  for (const Choice& choice : kChoices) {
    if (roll < choice.weight) {
      (this->*choice.write)();
      return;
    }
    roll -= choice.weight;
  }
}

std::optional<uint8_t> Generator::pointer() {
  for (unsigned attempt = 0; attempt < 12; ++attempt) {
    const uint8_t reg = any();
    if (pointers_[reg]) return reg;
  }
  return kRsp;
}

std::optional<uint8_t> Generator::small() {
  for (unsigned attempt = 0; attempt < 12; ++attempt) {
    const uint8_t reg = any();
    if (small_[reg]) return reg;
  }
  return std::nullopt;
}

uint8_t Generator::destination() {
  for (unsigned attempt = 0;; ++attempt) {
    const uint8_t reg = any();
    if (reg == counter_ || reg == kRsp) continue;
    if ((pointers_[reg] || small_[reg]) && attempt < 40 && !random_.percent(2)) continue;
    return reg;
  }
}

void Generator::forget(uint8_t reg) {
  if (reg == kRsp) return;
  pointers_[reg].reset();
  small_[reg].reset();
}

void Generator::set_size(Encoding& encoding, unsigned size, uint8_t opcode) {
  encoding.operand_size = size == 2;
  encoding.w = size == 8;
  encoding.opcode = size == 1 ? opcode : static_cast<uint8_t>(opcode | 1);
}

unsigned Generator::choose_size() {
  static constexpr std::array<uint8_t, 10> kSizes = {1, 1, 2, 4, 4, 4, 8, 8, 8, 8};
  const unsigned size = kSizes[random_.below(kSizes.size())];
  return program_.code32 ? std::min(size, 4u) : size;
}

void Generator::set_byte_register(Encoding& encoding, bool written) {
  uint8_t reg = written ? destination() : any();
  if (program_.code32) {  // AH to BH, or the low byte of the same registers
    reg &= 3;
    if (written && (reg == counter_ || pointers_[reg])) reg = destination() & 3;
  }
  if (random_.percent(40) && reg < 4) {
    encoding.reg = static_cast<uint8_t>(reg + 4);  // AH to BH, without REX
  } else {
    encoding.reg = reg;
    encoding.rex = true;
  }
  if (written) forget(reg);
}

void Generator::put(const Encoding& encoding, unsigned immediate, Piece piece) {
  Encoding of_mode = encoding;
  of_mode.mode = program_.mode();
  if (program_.code32) of_mode.w = false;
  const Bytes bytes = emit(of_mode);
  piece.size = static_cast<uint8_t>(bytes.size - 8 + immediate);
  std::copy_n(bytes.data.begin(), piece.size, piece.bytes.begin());
  if (piece.fix == Fix::kWindow || piece.fix == Fix::kCode)
    piece.at = static_cast<uint8_t>(piece.size - immediate - 4);
  program_.pieces.push_back(piece);
}

void Generator::raw(std::initializer_list<unsigned> bytes) {
  Piece piece;
  const bool has_rex = bytes.size() > 1 && (*bytes.begin() & 0xF0) == 0x40;
  const auto begin = bytes.begin() + (program_.code32 && has_rex ? 1 : 0);
  for (const unsigned byte : std::span(begin, bytes.end()))
    piece.bytes[piece.size++] = static_cast<uint8_t>(byte);
  program_.pieces.push_back(piece);
}

void Generator::define_flags() {
  Piece& piece = program_.pieces.back();
  piece.bytes[piece.size++] = 0x39;
  piece.bytes[piece.size++] = static_cast<uint8_t>(0xC0 | random_.below(64));
  piece.tail = 2;
}

void Generator::raw32(std::initializer_list<unsigned> bytes, int32_t value, Fix fix,
                      int32_t target) {
  raw(bytes);
  Piece& piece = program_.pieces.back();
  piece.at = piece.size;
  std::memcpy(&piece.bytes[piece.size], &value, 4);
  piece.size = static_cast<uint8_t>(piece.size + 4);
  piece.fix = fix;
  piece.target = target;
}

void Generator::registers(uint8_t opcode, unsigned size, uint8_t reg, uint8_t rm, uint8_t map) {
  Encoding encoding;
  encoding.map = map;
  set_size(encoding, size, opcode);
  encoding.opcode = size == 1 ? opcode : static_cast<uint8_t>(opcode | 1);
  encoding.reg = reg;
  encoding.rm = rm;
  encoding.rex = size == 1;
  put(encoding, 0, {});
}

}  // namespace limen::conformance
