# The CUDA backend, a plug-in: libtern_cuda.so from cuda/*.cu and cuda/*.c. cuda/x.cu exports
# ti_cuda_x. It needs nvcc 12.8 or later; without it the plug-in is left out, which is said.
option(TERN_CUDA "Build libtern_cuda.so, if nvcc is there" OFF)
set(TERN_CUDA_ARCHS "75;80;90;100;120" CACHE STRING
  "GPU architectures to build for; PTX of the last one serves later ones")

file(GLOB cuda_kernels CONFIGURE_DEPENDS cuda/*.cu)
tern_table(cuda_text "const ti_row" ti_cuda ti_cuda_rows ${cuda_kernels})
file(CONFIGURE OUTPUT generated/cuda_tables.c @ONLY CONTENT
"/* Made by CMake from the names of the files in cuda. */
#include \"core/row.h\"
extern const ti_row *const ti_cuda_rows[];
@cuda_text@")
# Beside the kernels: what the simt plug-in is made of, too.
set(cuda_host ${PROJECT_SOURCE_DIR}/cuda/backend.c ${PROJECT_SOURCE_DIR}/cuda/capture.c
  ${PROJECT_SOURCE_DIR}/cuda/stage.c ${PROJECT_SOURCE_DIR}/host/core/meta.c
  ${CMAKE_CURRENT_BINARY_DIR}/generated/cuda_tables.c)

set(cuda_left_out "")
if(NOT TERN_CUDA)
  set(cuda_left_out "TERN_CUDA is OFF")
else()
  find_program(TERN_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin)
  if(NOT TERN_NVCC)
    set(cuda_left_out "there is no nvcc")
  else()
    execute_process(COMMAND ${TERN_NVCC} --version OUTPUT_VARIABLE nvcc_version)
    string(REGEX MATCH "release ([0-9.]+)" nvcc_version "${nvcc_version}")
    set(nvcc_version ${CMAKE_MATCH_1})
    if(nvcc_version VERSION_LESS 12.8)
      set(cuda_left_out "nvcc is ${nvcc_version}, 12.8 is needed")
    endif()
  endif()
endif()
if(cuda_left_out)
  message(STATUS "left out: the CUDA plug-in (${cuda_left_out})")
else()
  set(CMAKE_CUDA_COMPILER ${TERN_NVCC})
  list(TRANSFORM TERN_CUDA_ARCHS APPEND "-real" OUTPUT_VARIABLE CMAKE_CUDA_ARCHITECTURES)
  list(GET TERN_CUDA_ARCHS -1 newest)
  list(APPEND CMAKE_CUDA_ARCHITECTURES ${newest}-virtual)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_EXTENSIONS OFF)
  set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)

  # Kernels by nvcc, all else by the C compiler, which also links: no C++ library comes along.
  add_library(tern_cuda_kernels OBJECT ${cuda_kernels})
  set(host_flags -Wall,-Wextra,-Wno-missing-field-initializers,-fno-exceptions,-fno-rtti)
  set_property(TARGET tern_cuda_kernels PROPERTY COMPILE_OPTIONS --fmad=false
    --compress-mode=size -Werror=all-warnings -Xcompiler=${host_flags},-fno-threadsafe-statics)
  target_include_directories(tern_cuda_kernels PRIVATE include host cuda)
  add_library(tern_cuda MODULE ${cuda_host} $<TARGET_OBJECTS:tern_cuda_kernels>)
  set_target_properties(tern_cuda PROPERTIES LINKER_LANGUAGE C
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/plugin.map)
  target_include_directories(tern_cuda PRIVATE include host cuda ${CUDAToolkit_INCLUDE_DIRS})
  target_compile_definitions(tern_cuda PRIVATE _GNU_SOURCE TI_CORE_HASH="${core_hash}")
  target_link_libraries(tern_cuda PRIVATE CUDA::cudart_static m)
  # nodelete: the CUDA runtime in it is not made to be unloaded and loaded again.
  target_link_options(tern_cuda PRIVATE -Wl,--exclude-libs,ALL -Wl,--no-undefined -Wl,-z,nodelete
    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cuda/plugin.map)
  install(TARGETS tern_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cuda)
endif()
