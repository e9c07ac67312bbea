// Integer instructions of random programs.
#include <algorithm>
#include <cstring>

#include "conformance/programs/generator.h"
#include "conformance/values.h"
#include "x86/registers.h"

namespace limen::conformance {
namespace {

constexpr std::array<uint8_t, 8> kArithmetic = {0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38};

void set_immediate(Encoding& encoding, uint64_t value) {
  std::memcpy(encoding.immediate.data(), &value, 8);
}

}  // namespace

void Generator::move() {
  const unsigned size = choose_size();
  Encoding encoding;
  const bool store = random_.percent(45);
  if (program_.code32 && random_.percent(15) && (store || (counter_ != 0 && !pointers_[0]))) {
    // AL or EAX, at an absolute address
    const auto opcode = static_cast<unsigned>(0xA0 + (size != 1) + 2 * store);
    const int32_t target = choose_target({.size = size, .writes = store}, std::nullopt);
    if (size == 2)
      raw32({0x66, opcode}, 0, Fix::kWindow, target);
    else
      raw32({opcode}, 0, Fix::kWindow, target);
    if (!store) forget(0);
    return;
  }
  if (store && random_.percent(20)) {  // MOV m, imm
    set_size(encoding, size, 0xC6);
    set_immediate(encoding, random_integer(random_));
    memory(encoding, {.size = size, .writes = true, .immediate = std::min(size, 4u)});
    return;
  }
  set_size(encoding, size, store ? 0x88 : 0x8A);
  if (size == 1)
    set_byte_register(encoding, !store);
  else
    encoding.reg = store ? any() : destination();
  if (random_.percent(4) && size != 1) {  // MOVBE
    encoding.map = 2;
    encoding.opcode = store ? 0xF1 : 0xF0;
  }
  memory(encoding, {.size = size, .writes = store});
  if (!store && size != 1) forget(encoding.reg);
}

void Generator::arithmetic() {
  const unsigned size = choose_size();
  const uint8_t operation = kArithmetic[random_.below(kArithmetic.size())];
  const bool compares = operation == 0x38;
  Encoding encoding;
  const auto form = random_.below(10);
  if (form < 3) {  // m, imm
    const bool short_immediate = size == 1 || random_.percent(50);
    set_size(encoding, size, 0x80);
    if (size != 1 && short_immediate) encoding.opcode = 0x83;
    encoding.reg = operation >> 3;
    set_immediate(encoding, random_integer(random_));
    memory(
        encoding,
        {.size = size, .writes = !compares, .immediate = short_immediate ? 1 : std::min(size, 4u)});
    return;
  }
  if (form == 3) {  // TEST
    const bool immediate = random_.percent(50);
    set_size(encoding, size, immediate ? 0xF6 : 0x84);
    encoding.reg = immediate ? 0 : any();
    if (size == 1 && !immediate) set_byte_register(encoding, false);
    set_immediate(encoding, random_integer(random_));
    memory(encoding, {.size = size, .immediate = immediate ? std::min(size, 4u) : 0});
    return;
  }
  const bool to_memory = form < 7;
  const bool writes_register = !to_memory && !compares;
  set_size(encoding, size, static_cast<uint8_t>(operation | (to_memory ? 0 : 2)));
  if (size == 1)
    set_byte_register(encoding, writes_register);
  else
    encoding.reg = writes_register ? destination() : any();
  memory(encoding, {.size = size, .writes = to_memory && !compares});
  if (writes_register && size != 1) forget(encoding.reg);
}

void Generator::unary() {
  const unsigned size = choose_size();
  Encoding encoding;
  const auto form = random_.below(8);
  if (program_.code32 && form < 2) {  // INC r, DEC r
    const uint8_t reg = destination();
    forget(reg);
    if (size == 2)
      raw({0x66, 0x40u + 8u * static_cast<unsigned>(form) + reg});
    else
      raw({0x40u + 8u * static_cast<unsigned>(form) + reg});
    return;
  }
  if (form < 4) {  // INC, DEC
    set_size(encoding, size, 0xFE);
    encoding.reg = form & 1;
  } else {  // NOT, NEG, MUL, IMUL
    set_size(encoding, size, 0xF6);
    encoding.reg = static_cast<uint8_t>(2 + (form & 1));
    const auto is_free = [&](uint8_t reg) {
      return reg != counter_ && !pointers_[reg] && !small_[reg];
    };
    if (form >= 6 && is_free(x86::kRax) && is_free(x86::kRdx)) {
      encoding.reg = static_cast<uint8_t>(random_.percent(5) ? 6 + (form & 1) : 4 + (form & 1));
      memory(encoding, {.size = size});
      if (encoding.reg >= 6) define_flags();
      return;
    }
  }
  memory(encoding, {.size = size, .writes = true});
}

void Generator::shift() {
  static constexpr std::array<uint8_t, 7> kOperations = {0, 1, 2, 3, 4, 5, 7};
  const unsigned size = choose_size();
  Encoding encoding;
  const auto form = random_.below(5);
  if (form == 4 && size != 1) {  // SHLD, SHRD
    set_size(encoding, size, 0);
    encoding.map = 1;
    encoding.opcode = static_cast<uint8_t>(0xA4 | random_.below(2) | random_.below(2) << 3);
    encoding.reg = any();
    set_immediate(encoding, random_.below(70));
    memory(encoding,
           {.size = size, .writes = true, .immediate = (encoding.opcode & 1) == 0 ? 1u : 0});
    define_flags();
    return;
  }
  const bool immediate = form < 2;
  set_size(encoding, size, immediate ? 0xC0 : form == 2 ? 0xD0 : 0xD2);
  encoding.reg = kOperations[random_.below(kOperations.size())];
  const uint64_t count = random_.percent(15) ? 0 : random_.below(70);
  set_immediate(encoding, count);
  if (random_.percent(50)) {
    memory(encoding, {.size = size, .writes = true, .immediate = immediate ? 1u : 0});
  } else {
    encoding.rm = destination();
    encoding.rex = true;
    forget(encoding.rm);
    put(encoding, immediate ? 1 : 0, {});
  }
  if (immediate && (count & (size == 8 ? 63 : 31)) > 1) define_flags();
}

void Generator::locked() {
  unsigned size = choose_size();
  Encoding encoding;
  Use use{.size = size, .writes = true, .locked = true};
  const bool free_pair =
      !pointers_[0] && !pointers_[2] && !small_[0] && !small_[2] && counter_ != 0 && counter_ != 2;
  switch (random_.below(7)) {
    case 0:  // XCHG
      set_size(encoding, size, 0x86);
      if (size == 1)
        set_byte_register(encoding, true);
      else
        encoding.reg = destination();
      break;
    case 1:  // XADD
      encoding.lock = random_.percent(60);
      set_size(encoding, size, 0xC0);
      encoding.map = 1;
      if (size == 1)
        set_byte_register(encoding, true);
      else
        encoding.reg = destination();
      break;
    case 2:  // CMPXCHG
      if (!free_pair) return;
      encoding.lock = random_.percent(60);
      set_size(encoding, size, 0xB0);
      encoding.map = 1;
      encoding.reg = any();
      encoding.rex = true;
      break;
    case 3:  // CMPXCHG8B, CMPXCHG16B
      if (!free_pair) return;
      encoding.lock = random_.percent(60);
      encoding.map = 1;
      encoding.opcode = 0xC7;
      encoding.reg = 1;
      encoding.w = random_.percent(50);
      use.size = encoding.w ? 16 : 8;
      use.aligned = true;
      break;
    case 4:  // m, imm
      encoding.lock = true;
      set_size(encoding, size, 0x80);
      encoding.reg = static_cast<uint8_t>(random_.below(7));
      set_immediate(encoding, random_integer(random_));
      use.immediate = std::min(size, 4u);
      break;
    case 5:  // INC, DEC, NOT, NEG
      encoding.lock = true;
      set_size(encoding, size, random_.percent(50) ? 0xFE : 0xF6);
      encoding.reg = static_cast<uint8_t>(random_.below(2) + (encoding.opcode < 0xF8 ? 2 : 0));
      break;
    default:  // m, r
      encoding.lock = true;
      set_size(encoding, size, kArithmetic[random_.below(7)]);
      encoding.reg = any();
      encoding.rex = true;
      break;
  }
  memory(encoding, use);
  if (encoding.map == 0 && (encoding.opcode | 1) == 0x87 && size != 1) forget(encoding.reg);
  if (encoding.map == 1 && (encoding.opcode | 1) == 0xC1 && size != 1) forget(encoding.reg);
}

void Generator::extend() {
  Encoding encoding;
  encoding.map = 1;
  const bool byte = random_.percent(50);
  encoding.opcode = static_cast<uint8_t>((byte ? 0xB6 : 0xB7) | (random_.percent(50) ? 8 : 0));
  unsigned size = byte ? 1 : 2;
  encoding.w = random_.percent(40);
  if (!program_.code32 && random_.percent(25)) {  // MOVSXD
    encoding.map = 0;
    encoding.opcode = 0x63;
    encoding.w = true;
    size = 4;
  }
  encoding.reg = destination();
  forget(encoding.reg);
  memory(encoding, {.size = size});
}

void Generator::bit_test() {
  const unsigned size = random_.percent(50) ? 8 : 4;
  const auto operation = static_cast<uint8_t>(random_.below(4));
  Encoding encoding;
  encoding.map = 1;
  encoding.w = size == 8;
  const bool writes = operation != 0;
  encoding.lock = writes && random_.percent(30);
  if (random_.percent(50)) {  // m, imm
    encoding.opcode = 0xBA;
    encoding.reg = static_cast<uint8_t>(4 + operation);
    set_immediate(encoding, random_.next());
    memory(encoding, {.size = size, .writes = writes, .locked = encoding.lock, .immediate = 1});
    define_flags();
    return;
  }
  // The bit string reaches as far as the register says.
  const auto index = small();
  encoding.opcode = static_cast<uint8_t>(0xA3 + 8 * operation);
  encoding.reg = index ? *index : any();
  if (!index) encoding.mod = 3;
  encoding.lock = encoding.lock && index;
  if (index) {
    memory(encoding, {.size = size, .writes = writes, .locked = encoding.lock});
  } else {
    encoding.rm = destination();
    forget(encoding.rm);
    put(encoding, 0, {});
  }
  define_flags();
}

void Generator::on_registers() {
  const unsigned size = choose_size();
  const uint8_t to = destination();
  const uint8_t from = any();
  forget(to);
  switch (random_.below(10)) {
    case 0: {  // MOV r, imm
      Encoding encoding;
      set_size(encoding, size == 1 ? 4 : size, 0xC6);
      set_immediate(encoding, random_integer(random_));
      encoding.rm = to;
      put(encoding, encoding.operand_size ? 2 : 4, {});
      break;
    }
    case 1:
      registers(0x8A, size, to, from);
      break;
    case 2:  // IMUL r, r
      registers(0xAF, std::max(size, 2u), to, from, 1);
      break;
    case 3: {  // op r, imm8
      Encoding encoding;
      set_size(encoding, size == 1 ? 4 : size, 0x82);
      encoding.reg = static_cast<uint8_t>(random_.below(8));
      encoding.rm = to;
      set_immediate(encoding, random_.next());
      put(encoding, 1, {});
      break;
    }
    case 4:  // a high byte
      if (const auto low = static_cast<uint8_t>(to & 3);
          low != counter_ && !pointers_[low] && !small_[low]) {
        raw({0x00u + kArithmetic[random_.below(8)] + 2u * static_cast<unsigned>(random_.below(2)),
             0xC0u | (4u + low) << 3 | (4u + low)});
        break;
      }
      [[fallthrough]];
    default:
      registers(static_cast<uint8_t>(kArithmetic[random_.below(8)] | 2), size, to, from);
      break;
  }
}

void Generator::flag_reader() {
  const auto condition = static_cast<uint8_t>(random_.below(16));
  Encoding encoding;
  encoding.map = 1;
  switch (random_.below(8)) {
    case 0:  // SETcc r
      encoding.opcode = static_cast<uint8_t>(0x90 | condition);
      encoding.rm = destination();
      encoding.rex = true;
      forget(encoding.rm);
      put(encoding, 0, {});
      break;
    case 1:  // SETcc m
      encoding.opcode = static_cast<uint8_t>(0x90 | condition);
      memory(encoding, {.size = 1, .writes = true});
      break;
    case 2:  // CMOVcc r, m
    case 3: {
      const unsigned size = std::max(choose_size(), 2u);
      set_size(encoding, size, 0);
      encoding.opcode = static_cast<uint8_t>(0x40 | condition);
      encoding.reg = destination();
      memory(encoding, {.size = size});
      forget(encoding.reg);
      break;
    }
    case 4: {  // CMOVcc r, r
      const uint8_t to = destination();
      set_size(encoding, random_.percent(50) ? 8 : 4, 0);
      encoding.opcode = static_cast<uint8_t>(0x40 | condition);
      encoding.reg = to;
      encoding.rm = any();
      forget(to);
      put(encoding, 0, {});
      break;
    }
    case 5:  // ADC, SBB
    {
      const uint8_t to = destination();
      forget(to);
      registers(random_.percent(50) ? 0x12 : 0x1A, random_.percent(50) ? 8 : 4, to, any());
      break;
    }
    case 6:  // LAHF, SAHF, CMC, CLC, STC
      if (counter_ == 0 || pointers_[0] || small_[0]) {
        raw({static_cast<unsigned>(random_.percent(50) ? 0xF5 : 0xF8 + random_.below(2))});
      } else {
        raw({static_cast<unsigned>(random_.percent(70) ? 0x9F : 0x9E)});
      }
      break;
    default:  // PUSHF; POP r
      raw({0x9C});
      {
        const uint8_t to = destination();
        forget(to);
        if (to > 7)
          raw({0x41, 0x58u | (to & 7u)});
        else
          raw({0x58u | to});
      }
      break;
  }
}

void Generator::adjust_pointer() {
  const uint8_t reg = *pointer();
  if (reg == x86::kRsp) return adjust_stack();
  auto step = static_cast<int32_t>(random_.between(-24, 24));
  if (random_.percent(30)) step = static_cast<int32_t>(random_.between(-8, 8)) * 8;
  Encoding encoding;
  encoding.w = true;
  switch (random_.below(8)) {
    case 0:
    case 1: {  // ADD, SUB
      const bool subtract = random_.percent(50);
      encoding.opcode = 0x83;
      encoding.reg = subtract ? 5 : 0;
      encoding.rm = reg;
      set_immediate(encoding, static_cast<uint64_t>(static_cast<int64_t>(step)));
      put(encoding, 1, {});
      *pointers_[reg] += subtract ? -static_cast<int8_t>(step) : static_cast<int8_t>(step);
      break;
    }
    case 2: {  // INC, DEC
      const bool down = random_.percent(50);
      encoding.opcode = 0xFF;
      encoding.reg = down ? 1 : 0;
      encoding.rm = reg;
      put(encoding, 0, {});
      *pointers_[reg] += down ? -1 : 1;
      break;
    }
    case 3: {  // LEA r, [r + d]
      encoding.opcode = 0x8D;
      encoding.reg = reg;
      set_base(encoding, reg, step, false);
      put(encoding, 0, {});
      *pointers_[reg] += step;
      break;
    }
    case 4: {  // another pointer: LEA r, [p + d], or MOV
      const uint8_t to = destination();
      encoding.reg = to;
      const bool copies = random_.percent(40);
      encoding.opcode = copies ? 0x8B : 0x8D;
      if (copies)
        encoding.rm = reg;
      else
        set_base(encoding, reg, step, false);
      put(encoding, 0, {});
      const int32_t at = *pointers_[reg] + (copies ? 0 : step);
      forget(to);
      pointers_[to] = at;
      break;
    }
    case 5: {  // LEA r, [window]
      const uint8_t to = destination();
      encoding.opcode = 0x8D;
      encoding.reg = to;
      encoding.mod = 0;
      encoding.rm = 5;
      Piece piece{.fix = Fix::kWindow, .target = choose_target({.size = 16}, std::nullopt)};
      put(encoding, 0, piece);
      forget(to);
      pointers_[to] = piece.target;
      break;
    }
    case 6: {  // an index
      const auto index = small();
      if (!index) return;
      encoding.opcode = 0xFF;
      encoding.rm = *index;
      put(encoding, 0, {});
      ++*small_[*index];
      break;
    }
    default: {  // a new index
      const uint8_t to = destination();
      const auto value = static_cast<int32_t>(random_.between(0, 48));
      encoding.opcode = 0xC7;
      encoding.rm = to;
      set_immediate(encoding, static_cast<uint64_t>(value));
      put(encoding, 4, {});
      forget(to);
      small_[to] = value;
      break;
    }
  }
}

void Generator::string() {
  static constexpr std::array<uint8_t, 5> kOpcodes = {0xA4, 0xA6, 0xAA, 0xAC, 0xAE};
  const uint8_t opcode = kOpcodes[random_.below(kOpcodes.size())];
  if (opcode == 0xAC && counter_ == 0) return;
  const unsigned size = choose_size();
  const bool repeats = random_.percent(60);
  const auto load = [&](uint8_t reg) {  // LEA r, [window]
    if (reg == counter_ || (pointers_[reg] && random_.percent(50))) return;
    Encoding encoding;
    encoding.w = true;
    encoding.opcode = 0x8D;
    encoding.reg = reg;
    encoding.mod = 0;
    encoding.rm = 5;
    const Piece piece{.fix = Fix::kWindow,
                      .target = choose_target({.size = 32, .writes = true}, std::nullopt)};
    put(encoding, 0, piece);
    forget(reg);
    pointers_[reg] = piece.target;
  };
  load(x86::kRsi);
  load(x86::kRdi);
  if (repeats && counter_ != x86::kRcx) {  // MOV ECX, n
    raw32({0xB9}, static_cast<int32_t>(random_.percent(10) ? 0 : random_.below(70)));
    forget(x86::kRcx);
  }
  const bool down = random_.percent(15);
  if (down) raw({0xFD});
  Piece piece;
  const auto byte = [&](unsigned value) {
    piece.bytes[piece.size++] = static_cast<uint8_t>(value);
  };
  if (random_.percent(3)) byte(0x67);
  if (random_.percent(4)) byte(0x64);
  if (size == 2) byte(0x66);
  if (repeats) byte(random_.percent(70) ? 0xF3 : 0xF2);
  if (size == 8) byte(0x48);
  byte(opcode | (size == 1 ? 0u : 1u));
  // The counter only becomes smaller.
  program_.pieces.push_back(piece);
  if (down) raw({0xFC});
  if (opcode == 0xAC) forget(x86::kRax);
  const auto moved = static_cast<int32_t>(size) * (down ? -1 : 1);
  if (repeats) {
    forget(x86::kRsi);
    forget(x86::kRdi);
    return;
  }
  if (opcode != 0xAA && opcode != 0xAE && pointers_[x86::kRsi]) *pointers_[x86::kRsi] += moved;
  if (opcode != 0xAC && pointers_[x86::kRdi]) *pointers_[x86::kRdi] += moved;
}

void Generator::bit_manipulation() {
  const unsigned size = random_.percent(50) ? 8 : 4;
  Encoding encoding;
  encoding.w = size == 8;
  encoding.reg = destination();
  Use use{.size = size};
  switch (random_.below(8)) {
    case 0:  // BSF, BSR
      encoding.map = 1;
      encoding.opcode = static_cast<uint8_t>(0xBC + random_.below(2));
      break;
    case 1:  // POPCNT, TZCNT, LZCNT
      encoding.map = 1;
      encoding.rep = true;
      encoding.opcode = std::array<uint8_t, 3>{0xB8, 0xBC, 0xBD}[random_.below(3)];
      break;
    case 2:  // CRC32
      encoding.map = 2;
      encoding.repne = true;
      encoding.opcode = 0xF1;
      break;
    case 3:  // ADCX, ADOX
      encoding.map = 2;
      (random_.percent(50) ? encoding.operand_size : encoding.rep) = true;
      encoding.opcode = 0xF6;
      break;
    case 4:  // IMUL r, m, imm
      encoding.opcode = 0x6B;
      set_immediate(encoding, random_.next());
      use.immediate = 1;
      break;
    case 5:  // ANDN
      encoding.scheme = Scheme::kVex;
      encoding.map = 2;
      encoding.opcode = 0xF2;
      encoding.vvvv = any();
      break;
    case 6:  // SHLX, SARX, SHRX, BEXTR
      encoding.scheme = Scheme::kVex;
      encoding.map = 2;
      encoding.opcode = 0xF7;
      encoding.pp = static_cast<uint8_t>(random_.below(4));
      encoding.vvvv = any();
      break;
    default:  // MULX
      encoding.scheme = Scheme::kVex;
      encoding.map = 2;
      encoding.opcode = 0xF6;
      encoding.pp = 3;
      encoding.vvvv = destination();
      break;
  }
  memory(encoding, use);
  if (!encoding.rep && encoding.map == 1) define_flags();
  if (encoding.scheme == Scheme::kVex && encoding.opcode == 0xF6) forget(encoding.vvvv);
  forget(encoding.reg);
}

}  // namespace limen::conformance
