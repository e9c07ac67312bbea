#include "boot/acpi/aml.h"

#include <array>
#include <cassert>
#include <charconv>

#include "boot/little_endian.h"

namespace limen::boot::acpi::aml {
namespace {

// Opcodes (ACPI 6.5 table 20.2).
constexpr uint8_t kZero = 0x00, kOne = 0x01, kName = 0x08, kByte = 0x0A, kWord = 0x0B,
                  kDword = 0x0C, kString = 0x0D, kQword = 0x0E, kScope = 0x10, kBuffer = 0x11,
                  kPackage = 0x12, kMethod = 0x14, kDualName = 0x2E, kMultiName = 0x2F,
                  kExtended = 0x5B, kLocal0 = 0x60, kArg0 = 0x68, kStore = 0x70, kAnd = 0x7B,
                  kOr = 0x7D, kCreateDwordField = 0x8A, kLogicalNot = 0x92, kLogicalEqual = 0x93,
                  kIf = 0xA0, kElse = 0xA1, kReturn = 0xA4, kOnes = 0xFF;
constexpr uint8_t kExtendedRegion = 0x80, kExtendedField = 0x81, kExtendedDevice = 0x82;
constexpr size_t kSegmentLength = 4;

Code raw(std::initializer_list<uint8_t> values) {
  Code code;
  for (const uint8_t value : values) code.bytes.push_back(static_cast<std::byte>(value));
  return code;
}

template <typename T>
Code number(T value) {
  Code code;
  append(code.bytes, value);
  return code;
}

/// PkgLength counts itself: 1 byte up to 63, else 4 bits and one to three bytes (20.2.4).
Code with_length(const Code& body) {
  const size_t size = body.bytes.size();
  if (size + 1 < 0x40) return number(static_cast<uint8_t>(size + 1)) + body;
  unsigned following = 1;
  while (size + 1 + following >= size_t{1} << (4 + 8 * following)) ++following;
  assert(following <= 3);
  const size_t length = size + 1 + following;
  Code code = number(static_cast<uint8_t>((following << 6) | (length & 0xF)));
  for (unsigned i = 0; i < following; ++i)
    code += number(static_cast<uint8_t>(length >> (4 + 8 * i)));
  return code + body;
}

Code segment(std::string_view text) {
  assert(!text.empty() && text.size() <= kSegmentLength);
  Code code;
  for (size_t i = 0; i < kSegmentLength; ++i)
    code.bytes.push_back(static_cast<std::byte>(i < text.size() ? text[i] : '_'));
  return code;
}

template <typename T>
T hexadecimal(std::string_view digits) {
  T value{};
  [[maybe_unused]] const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  assert(error == std::errc{} && end == digits.data() + digits.size());
  return value;
}

/// An address-space descriptor (6.4.3.5): what the bridge passes on, both ends fixed.
template <typename T>
Code address_space(uint8_t tag, uint8_t type, uint8_t type_flags, T first, T last) {
  constexpr uint8_t kBothEndsFixed = 0x0C;
  const Code rest = raw({type, kBothEndsFixed, type_flags}) + number(T{0}) + number(first) +
                    number(last) + number(T{0}) + number(static_cast<T>(last - first + 1));
  return number(tag) + number(static_cast<uint16_t>(rest.bytes.size())) + rest;
}

}  // namespace

Code& Code::operator+=(const Code& other) {
  bytes.insert(bytes.end(), other.bytes.begin(), other.bytes.end());
  return *this;
}

Code operator+(Code left, const Code& right) {
  left += right;
  return left;
}

Code integer(uint64_t value) {
  if (value == 0) return raw({kZero});
  if (value == 1) return raw({kOne});
  if (value == UINT64_MAX) return raw({kOnes});
  if (value <= UINT8_MAX) return raw({kByte}) + number(static_cast<uint8_t>(value));
  if (value <= UINT16_MAX) return raw({kWord}) + number(static_cast<uint16_t>(value));
  if (value <= UINT32_MAX) return raw({kDword}) + number(static_cast<uint32_t>(value));
  return raw({kQword}) + number(value);
}

Code string(std::string_view text) {
  Code code = raw({kString});
  for (const char c : text) code.bytes.push_back(static_cast<std::byte>(c));
  return code + raw({0});
}

Code buffer(const Code& contents) {
  return raw({kBuffer}) + with_length(integer(contents.bytes.size()) + contents);
}

Code package(unsigned count, const Code& elements) {
  assert(count <= UINT8_MAX);
  return raw({kPackage}) + with_length(number(static_cast<uint8_t>(count)) + elements);
}

Code eisa_id(std::string_view id) {
  assert(id.size() == 7);
  unsigned vendor = 0;
  for (size_t i = 0; i < 3; ++i) vendor = (vendor << 5) | (static_cast<unsigned>(id[i]) & 0x1F);
  const uint32_t big_endian = (vendor << 16) | hexadecimal<uint16_t>(id.substr(3));
  return integer(__builtin_bswap32(big_endian));
}

Code uuid(std::string_view text) {
  assert(text.size() == 36);
  Code code = number(hexadecimal<uint32_t>(text.substr(0, 8))) +
              number(hexadecimal<uint16_t>(text.substr(9, 4))) +
              number(hexadecimal<uint16_t>(text.substr(14, 4)));
  for (const size_t at : {19, 21, 24, 26, 28, 30, 32, 34})
    code += number(hexadecimal<uint8_t>(text.substr(at, 2)));
  return buffer(code);
}

Code path(std::string_view name) {
  Code code;
  while (!name.empty() && (name.front() == '\\' || name.front() == '^')) {
    code.bytes.push_back(static_cast<std::byte>(name.front()));
    name.remove_prefix(1);
  }
  Code segments;
  unsigned count = 0;
  while (!name.empty()) {
    const size_t dot = name.find('.');
    segments += segment(name.substr(0, dot));
    name.remove_prefix(dot == std::string_view::npos ? name.size() : dot + 1);
    ++count;
  }
  if (count == 0) return code + raw({0});
  if (count == 2) code += raw({kDualName});
  if (count > 2) code += raw({kMultiName, static_cast<uint8_t>(count)});
  return code + segments;
}

Code scope(std::string_view name, const Code& body) {
  return raw({kScope}) + with_length(path(name) + body);
}

Code device(std::string_view name, const Code& body) {
  return raw({kExtended, kExtendedDevice}) + with_length(path(name) + body);
}

Code name(std::string_view name, const Code& value) { return raw({kName}) + path(name) + value; }

Code method(std::string_view name, unsigned arguments, bool serialized, const Code& body) {
  assert(arguments <= 7);
  const auto flags = static_cast<uint8_t>(arguments | (serialized ? 8u : 0u));
  return raw({kMethod}) + with_length(path(name) + number(flags) + body);
}

Code operation_region(std::string_view name, Space space, uint64_t offset, uint64_t length) {
  return raw({kExtended, kExtendedRegion}) + path(name) + number(static_cast<uint8_t>(space)) +
         integer(offset) + integer(length);
}

Code byte_fields(std::string_view region, std::span<const std::string_view> names) {
  constexpr uint8_t kByteAccess = 1, kBits = 8;
  Code fields = path(region) + number(kByteAccess);
  for (const auto& each : names) fields += segment(each) + number(kBits);
  return raw({kExtended, kExtendedField}) + with_length(fields);
}

Code no_target() { return raw({0}); }
Code argument(unsigned index) { return number(static_cast<uint8_t>(kArg0 + index)); }
Code local(unsigned index) { return number(static_cast<uint8_t>(kLocal0 + index)); }
Code store(const Code& value, const Code& target) { return raw({kStore}) + value + target; }
Code bit_and(const Code& left, const Code& right, const Code& target) {
  return raw({kAnd}) + left + right + target;
}
Code bit_or(const Code& left, const Code& right, const Code& target) {
  return raw({kOr}) + left + right + target;
}
Code equal(const Code& left, const Code& right) { return raw({kLogicalEqual}) + left + right; }
Code logical_not(const Code& operand) { return raw({kLogicalNot}) + operand; }
Code if_then(const Code& condition, const Code& body) {
  return raw({kIf}) + with_length(condition + body);
}
Code otherwise(const Code& body) { return raw({kElse}) + with_length(body); }
Code return_value(const Code& value) { return raw({kReturn}) + value; }
Code create_dword_field(const Code& source, uint64_t byte_offset, std::string_view field) {
  return raw({kCreateDwordField}) + source + integer(byte_offset) + path(field);
}

Code resource_template(const Code& descriptors) {
  // An end tag with checksum 0 is taken as correct (6.4.2.9).
  return buffer(descriptors + raw({0x79, 0}));
}

Code io(uint16_t first, uint8_t length) {
  constexpr uint8_t kDecodes16Bits = 1, kAlignment = 1;
  return raw({0x47, kDecodes16Bits}) + number(first) + number(first) + raw({kAlignment, length});
}

Code irq(unsigned number_of_line) {
  assert(number_of_line < 16);
  return raw({0x22}) + number(static_cast<uint16_t>(1u << number_of_line));
}

Code interrupts_level_high_shared(std::span<const uint32_t> gsis) {
  constexpr uint8_t kConsumer = 1u << 0, kShared = 1u << 3;
  const auto count = static_cast<uint8_t>(gsis.size());
  Code code = raw({0x89, static_cast<uint8_t>(2 + 4 * count), 0, kConsumer | kShared, count});
  for (const uint32_t gsi : gsis) code += number(gsi);
  return code;
}

Code interrupt_level_high_shared(uint32_t gsi) {
  return interrupts_level_high_shared(std::span(&gsi, 1));
}

Code memory32_fixed(uint32_t base, uint32_t length) {
  constexpr uint8_t kWritable = 1;
  return raw({0x86, 9, 0, kWritable}) + number(base) + number(length);
}

Code bus_window(uint16_t first, uint16_t last) { return address_space(0x88, 2, 0, first, last); }

Code io_window(uint16_t first, uint16_t last) {
  constexpr uint8_t kEntireRange = 3;
  return address_space(0x88, 1, kEntireRange, first, last);
}

Code memory_window(uint32_t first, uint32_t last, bool cacheable) {
  constexpr uint8_t kWritable = 1u << 0, kCacheable = 1u << 1;
  return address_space(0x87, 0, cacheable ? kWritable | kCacheable : kWritable, first, last);
}

Code memory_window64(uint64_t first, uint64_t last) {
  constexpr uint8_t kWritable = 1u << 0;
  return address_space(0x8A, 0, kWritable, first, last);
}

}  // namespace limen::boot::acpi::aml
