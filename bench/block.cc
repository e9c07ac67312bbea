// A disk, by its device node or as a file.
//
// A device is used without the kernel's cache, so that each operation reaches the virtual disk. A
// file is used through the cache, where the storage of a machine's disk also is: the least that one
// could take.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "measure.h"

namespace bench {

namespace {

class Disk {
 public:
  explicit Disk(const Request& request) {
    if (request.arguments.size() != 1) {
      std::fputs("limen-bench: error: a disk's row needs the path of the disk\n", stderr);
      std::exit(1);
    }
    const char* path = request.arguments.front().c_str();
    struct stat status {};
    checked(stat(path, &status), path);
    const int direct = S_ISBLK(status.st_mode) ? O_DIRECT : 0;
    file_ = static_cast<int>(checked(open(path, O_RDWR | O_CLOEXEC | direct), path));
    size_ = static_cast<uint64_t>(checked(lseek(file_, 0, SEEK_END), "lseek"));
    if (size_ < kLargest) {
      std::fprintf(stderr, "limen-bench: error: %s has less than %zu bytes\n", path, kLargest);
      std::exit(1);
    }
    buffer_ = mmap(nullptr, kLargest, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    checked(buffer_ == MAP_FAILED ? -1 : 0, "mmap");
  }
  ~Disk() { close(file_); }
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  uint64_t blocks(size_t bytes) const { return size_ / bytes; }
  void read(uint64_t block, size_t bytes) {
    expect(pread(file_, buffer_, bytes, static_cast<off_t>(block * bytes)), bytes, "read");
  }
  void write(uint64_t block, size_t bytes) {
    expect(pwrite(file_, buffer_, bytes, static_cast<off_t>(block * bytes)), bytes, "write");
  }

  static constexpr size_t kLargest = size_t{1} << 20;

 private:
  static void expect(ssize_t done, size_t bytes, const char* what) {
    checked(done, what);
    if (static_cast<size_t>(done) != bytes) {
      std::fprintf(stderr, "limen-bench: error: short %s: %zd of %zu bytes\n", what, done, bytes);
      std::exit(1);
    }
  }

  int file_ = -1;
  uint64_t size_ = 0;
  void* buffer_ = nullptr;
};

constexpr size_t kSmall = 4096;

double random_access(const Request& request, void (Disk::*access)(uint64_t, size_t)) {
  Disk disk(request);
  Random random;
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      (disk.*access)(random.next() % disk.blocks(kSmall), kSmall);
    }
  });
}

double sequential_access(const Request& request, void (Disk::*access)(uint64_t, size_t)) {
  Disk disk(request);
  uint64_t next = 0;
  return best_whole_time(request, [&](uint64_t count) {
    for (uint64_t i = 0; i < count; ++i) {
      (disk.*access)(next++ % disk.blocks(Disk::kLargest), Disk::kLargest);
    }
  });
}

}  // namespace

std::vector<Row> block_rows() {
  return {
      {"block-read-4k", "read", [](const Request& r) { return random_access(r, &Disk::read); }},
      {"block-write-4k", "write", [](const Request& r) { return random_access(r, &Disk::write); }},
      {"block-read-1m", "read", [](const Request& r) { return sequential_access(r, &Disk::read); }},
      {"block-write-1m", "write",
       [](const Request& r) { return sequential_access(r, &Disk::write); }}};
}

}  // namespace bench
