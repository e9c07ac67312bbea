# limen_room(NAME [LIBRARIES ...] [PRIVATE_LIBRARIES ...])
#
# A room is a folder of src/: every .cc below it, built into one static library
# limen_NAME that links against all rooms declared before it.

add_library(limen_options INTERFACE)
target_compile_options(limen_options INTERFACE
  -Wall -Wextra -Wconversion -Wshadow -Werror -fno-strict-aliasing)
target_include_directories(limen_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_definitions(limen_options INTERFACE LIMEN_VERSION="${PROJECT_VERSION}")
# Start-up is short: what nobody calls is left out, and relocations are few bytes to read.
target_link_options(limen_options INTERFACE -Wl,--gc-sections)
include(CheckLinkerFlag)
check_linker_flag(CXX -Wl,-z,pack-relative-relocs LIMEN_HAS_PACKED_RELOCATIONS)
if(LIMEN_HAS_PACKED_RELOCATIONS)
  target_link_options(limen_options INTERFACE -Wl,-z,pack-relative-relocs)
endif()
if(LIMEN_SANITIZE)
  target_compile_options(limen_options INTERFACE
    -fsanitize=${LIMEN_SANITIZE} -fno-sanitize-recover=undefined)
  target_link_options(limen_options INTERFACE -fsanitize=${LIMEN_SANITIZE})
endif()
if(LIMEN_FUZZ)
  # fuzz/CMakeLists.txt says why there are two ways.
  if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
    target_compile_options(limen_options INTERFACE -fsanitize=fuzzer-no-link)
  else()
    target_compile_options(limen_options INTERFACE -fsanitize-coverage=trace-pc,trace-cmp)
    add_library(limen_no_coverage STATIC ${CMAKE_SOURCE_DIR}/fuzz/no_coverage.cc)
    target_link_libraries(limen_options INTERFACE limen_no_coverage)
  endif()
endif()

set(LIMEN_ROOMS "")
function(limen_room name)
  cmake_parse_arguments(ROOM "" "" "LIBRARIES;PRIVATE_LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${name}/*.cc)
  set(above "")
  foreach(room ${LIMEN_ROOMS})
    list(APPEND above limen_${room})
  endforeach()
  list(REVERSE above)
  if(sources)
    add_library(limen_${name} STATIC ${sources})
    target_link_libraries(limen_${name} PUBLIC limen_options ${above} ${ROOM_LIBRARIES}
      PRIVATE ${ROOM_PRIVATE_LIBRARIES})
    limen_bundle(limen_${name})
  else()
    add_library(limen_${name} INTERFACE)
    target_link_libraries(limen_${name} INTERFACE limen_options ${above} ${ROOM_LIBRARIES})
  endif()
  set(LIMEN_ROOMS ${LIMEN_ROOMS} ${name} PARENT_SCOPE)
endfunction()
