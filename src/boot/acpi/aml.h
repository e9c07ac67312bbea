// A writer of ACPI Machine Language: each function gives the bytes of one construct (ACPI 6.5
// chapter 20), resource descriptors as chapter 6.4 has them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace limen::boot::acpi::aml {

/// Encoded terms; + puts one behind the other.
struct Code {
  std::vector<std::byte> bytes;
  Code& operator+=(const Code& other);
};
Code operator+(Code left, const Code& right);

// Data.
Code integer(uint64_t value);
Code string(std::string_view text);
Code buffer(const Code& contents);
/// `count` elements in `elements`; at most 255.
Code package(unsigned count, const Code& elements);
/// "PNP0A08" as the compressed number that _HID takes (ACPI 6.5 6.1.5).
Code eisa_id(std::string_view id);
/// "33db4d5b-1ff7-401c-9657-7441c03dd766" as a 16-byte buffer, mixed-endian as ToUUID() has it.
Code uuid(std::string_view text);
/// A name such as "\\_SB.PCI0" or "^GSIA"; segments shorter than four are filled with '_'.
Code path(std::string_view name);

// Named objects.
Code scope(std::string_view name, const Code& body);
Code device(std::string_view name, const Code& body);
Code name(std::string_view name, const Code& value);
Code method(std::string_view name, unsigned arguments, bool serialized, const Code& body);

/// Where an operation region lies (19.6.100).
enum class Space : uint8_t { kMemory = 0, kIo = 1, kPciConfig = 2 };
Code operation_region(std::string_view name, Space space, uint64_t offset, uint64_t length);
/// Names for the bytes of a region, from its first on.
Code byte_fields(std::string_view region, std::span<const std::string_view> names);

// Statements and expressions, for methods.
Code no_target();  ///< The result is for whom the expression is an operand of.
Code argument(unsigned index);
Code local(unsigned index);
Code store(const Code& value, const Code& target);
Code bit_and(const Code& left, const Code& right, const Code& target);
Code bit_or(const Code& left, const Code& right, const Code& target);
Code equal(const Code& left, const Code& right);
Code logical_not(const Code& operand);
Code if_then(const Code& condition, const Code& body);
/// Stands directly behind an if_then().
Code otherwise(const Code& body);
Code return_value(const Code& value);
/// Names the 32 bits at `byte_offset` of a buffer.
Code create_dword_field(const Code& buffer, uint64_t byte_offset, std::string_view field);

// Resources: descriptors, put together by +, inside resource_template().
Code resource_template(const Code& descriptors);
Code io(uint16_t first, uint8_t length);
Code irq(unsigned number);  ///< ISA: edge-triggered, active high, exclusive.
Code interrupt_level_high_shared(uint32_t gsi);
/// The number of the first stands at byte kFirstGsiOffset.
Code interrupts_level_high_shared(std::span<const uint32_t> gsis);
inline constexpr uint64_t kFirstGsiOffset = 5;
Code memory32_fixed(uint32_t base, uint32_t length);
Code bus_window(uint16_t first, uint16_t last);
Code io_window(uint16_t first, uint16_t last);
Code memory_window(uint32_t first, uint32_t last, bool cacheable);
Code memory_window64(uint64_t first, uint64_t last);

}  // namespace limen::boot::acpi::aml
