// The numbers of the qcow2 format (QEMU's docs/interop/qcow2.txt). Everything on disk is big-endian.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace limen::block::qcow2 {

inline constexpr uint32_t kMagic = 0x5146'49FB;  ///< "QFI" and FBh.
inline constexpr unsigned kSmallestClusterBits = 9, kLargestClusterBits = 21;
inline constexpr unsigned kLargestRefcountOrder = 6;
inline constexpr uint32_t kVersion2HeaderSize = 72, kVersion3HeaderSize = 104;
inline constexpr uint32_t kOwnHeaderSize = 112;  ///< With the compression type.
// What QEMU takes at most, too.
inline constexpr uint64_t kLargestL1 = uint64_t{32} << 20;
inline constexpr uint64_t kLargestRefcountTable = uint64_t{8} << 20;
inline constexpr uint32_t kLargestBackingName = 1023;
inline constexpr uint32_t kMostSnapshots = 65536;

// Incompatible features.
inline constexpr uint64_t kDirty = 1u << 0;
inline constexpr uint64_t kCorrupt = 1u << 1;
inline constexpr uint64_t kDataFile = 1u << 2;
inline constexpr uint64_t kCompressionType = 1u << 3;
inline constexpr uint64_t kExtendedL2 = 1u << 4;
inline constexpr uint64_t kKnownIncompatible =
    kDirty | kCorrupt | kDataFile | kCompressionType | kExtendedL2;
// Compatible features.
inline constexpr uint64_t kLazyRefcounts = 1u << 0;
// Autoclear features.
inline constexpr uint64_t kBitmaps = 1u << 0;
inline constexpr uint64_t kDataFileRaw = 1u << 1;

// Header extensions.
inline constexpr uint32_t kEndExtension = 0;
inline constexpr uint32_t kBackingFormatExtension = 0xE279'2ACA;
inline constexpr uint32_t kFeatureNameExtension = 0x6803'F857;
inline constexpr uint32_t kBitmapsExtension = 0x2385'2875;
inline constexpr uint32_t kEncryptionExtension = 0x0537'BE77;
inline constexpr uint32_t kDataFileExtension = 0x4441'5441;

// Entries of L1 and L2 tables.
inline constexpr uint64_t kCopied = uint64_t{1} << 63;  ///< The cluster has refcount 1.
inline constexpr uint64_t kCompressedEntry = uint64_t{1} << 62;
inline constexpr uint64_t kZeroEntry = 1;  ///< L2, version 3: reads as zeroes.
inline constexpr uint64_t kOffsetMask = 0x00FF'FFFF'FFFF'FE00;
inline constexpr uint64_t kL1Reserved = ~(kCopied | kOffsetMask);
inline constexpr unsigned kSubclusters = 32;  ///< In a cluster with extended L2 entries.

template <typename T>
T load_big(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  return value;
}

template <typename T>
void store_big(std::byte* at, T value) {
  if constexpr (sizeof(T) == 8) value = __builtin_bswap64(value);
  if constexpr (sizeof(T) == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof(T) == 2) value = __builtin_bswap16(value);
  std::memcpy(at, &value, sizeof value);
}

constexpr uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }
constexpr uint64_t divide_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit; }

}  // namespace limen::block::qcow2
