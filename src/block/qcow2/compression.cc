#include "block/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

namespace limen::block::qcow2 {
namespace {

constexpr int kWindowBits = -12;  // negative: raw deflate
constexpr int kMemoryLevel = 9;

Bytef* bytes_of(const std::byte* at) {
  return const_cast<Bytef*>(reinterpret_cast<const Bytef*>(at));
}

bool inflate_all(std::span<const std::byte> packed, std::span<std::byte> cluster) {
  z_stream stream{};
  if (::inflateInit2(&stream, kWindowBits) != Z_OK) return false;
  stream.next_in = bytes_of(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = bytes_of(cluster.data());
  stream.avail_out = static_cast<uInt>(cluster.size());
  const int status = ::inflate(&stream, Z_FINISH);
  ::inflateEnd(&stream);
  return (status == Z_STREAM_END || status == Z_BUF_ERROR) && stream.avail_out == 0;
}

std::vector<std::byte> deflate_all(std::span<const std::byte> cluster) {
  z_stream stream{};
  if (::deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kWindowBits, kMemoryLevel,
                     Z_DEFAULT_STRATEGY) != Z_OK)
    return {};
  std::vector<std::byte> packed(cluster.size() - 1);
  stream.next_in = bytes_of(cluster.data());
  stream.avail_in = static_cast<uInt>(cluster.size());
  stream.next_out = bytes_of(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  const int status = ::deflate(&stream, Z_FINISH);
  packed.resize(packed.size() - stream.avail_out);
  ::deflateEnd(&stream);
  if (status != Z_STREAM_END) packed.clear();
  return packed;
}

bool unpack_zstd(std::span<const std::byte> packed, std::span<std::byte> cluster) {
  // As a stream: the packed bytes end somewhere within the last sector.
  ZSTD_DStream* const stream = ::ZSTD_createDStream();
  if (stream == nullptr) return false;
  ZSTD_inBuffer in{packed.data(), packed.size(), 0};
  ZSTD_outBuffer out{cluster.data(), cluster.size(), 0};
  bool good = true;
  while (good && out.pos < out.size) {
    const size_t in_before = in.pos, out_before = out.pos;
    const size_t status = ::ZSTD_decompressStream(stream, &out, &in);
    good = ::ZSTD_isError(status) == 0 && (in.pos != in_before || out.pos != out_before);
    if (status == 0) break;
  }
  ::ZSTD_freeDStream(stream);
  return good && out.pos == out.size;
}

std::vector<std::byte> pack_zstd(std::span<const std::byte> cluster) {
  std::vector<std::byte> packed(cluster.size() - 1);
  const size_t size =
      ::ZSTD_compress(packed.data(), packed.size(), cluster.data(), cluster.size(), ZSTD_CLEVEL_DEFAULT);
  packed.resize(::ZSTD_isError(size) != 0 ? 0 : size);
  return packed;
}

}  // namespace

bool unpack(Compression kind, std::span<const std::byte> packed, std::span<std::byte> cluster) {
  return kind == Compression::kZstd ? unpack_zstd(packed, cluster) : inflate_all(packed, cluster);
}

std::vector<std::byte> pack(Compression kind, std::span<const std::byte> cluster) {
  return kind == Compression::kZstd ? pack_zstd(cluster) : deflate_all(cluster);
}

}  // namespace limen::block::qcow2
