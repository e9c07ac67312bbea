# limen_delay_load(ROOM NAME LIBRARY...)
#
# Has room ROOM call functions of shared libraries (paths) without linking against them: a library is
# loaded when the first of its functions is called (src/base/delayed_library.h). The room's
# LIMEN_NAME_LIBRARY is the name of the first, for load_library(). Only functions can be had so: no
# variables. A sanitizer wants to know its libraries, and has them linked as usual.

find_package(Python3 REQUIRED COMPONENTS Interpreter)

function(limen_delay_load room name)
  set(stand_ins ${CMAKE_BINARY_DIR}/delayed/${name}.cc)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/delay_load.py ${stand_ins} ${ARGN}
    OUTPUT_VARIABLE files COMMAND_ERROR_IS_FATAL ANY)
  list(GET files 0 first)
  string(TOUPPER ${name} upper)
  target_compile_definitions(limen_${room} PRIVATE LIMEN_${upper}_LIBRARY="${first}")
  if(LIMEN_SANITIZE)
    target_link_libraries(limen_${room} PRIVATE ${ARGN})
  else()
    add_library(limen_delayed_${name} STATIC ${stand_ins})
    target_link_libraries(limen_delayed_${name} PRIVATE limen_base)
    target_link_libraries(limen_${room} PRIVATE limen_delayed_${name})
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/cmake/delay_load.py ${ARGN})
endfunction()
