# limen_delay_load(NAME LIBRARY... FOR TARGET...)
#
# Has targets call functions of shared libraries (paths) without linking against them: a library is
# loaded when the first of its functions is called (src/base/delayed_library.h). The targets'
# LIMEN_NAME_LIBRARY is the name of the first, for load_library(). Only functions can be had so: no
# variables. A sanitizer wants to know its libraries, and has them linked as usual.

find_package(Python3 REQUIRED COMPONENTS Interpreter)

function(limen_delay_load name)
  cmake_parse_arguments(DELAY "" "" "FOR" ${ARGN})
  set(libraries ${DELAY_UNPARSED_ARGUMENTS})
  set(stand_ins ${CMAKE_BINARY_DIR}/delayed/${name}.cc)
  execute_process(
    COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/cmake/delay_load.py ${stand_ins} ${libraries}
    OUTPUT_VARIABLE files COMMAND_ERROR_IS_FATAL ANY)
  list(GET files 0 first)
  string(TOUPPER ${name} upper)
  if(NOT LIMEN_SANITIZE)
    add_library(limen_delayed_${name} STATIC ${stand_ins})
    target_link_libraries(limen_delayed_${name} PRIVATE limen_base)
    set(libraries limen_delayed_${name})
  endif()
  foreach(target ${DELAY_FOR})
    target_compile_definitions(${target} PRIVATE LIMEN_${upper}_LIBRARY="${first}")
    target_link_libraries(${target} PRIVATE ${libraries})
  endforeach()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/cmake/delay_load.py ${DELAY_UNPARSED_ARGUMENTS})
endfunction()
