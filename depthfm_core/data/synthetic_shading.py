"""Kernels of the renderer: surface properties at hit points, rays towards light, and the light they bring.

Monte Carlo noise comes from a hash of the pixel number, so that a frame does not depend on any state.
Every array has one row a ray; `hits` is (prim, u, v, t) as the tracer returns them.
"""

import math

from numba import njit

from .synthetic_textures import (
    COLOR_A,
    COLOR_B,
    COLOR_C,
    EMISSION,
    MIRROR,
    SEED,
    SHARED,
    SHININESS,
    SPECULAR,
    fractal,
    hash01,
    pattern_value,
)

# Columns of a light: a parallelogram (centre and two half edges) and its intensity.
POSITION, EDGE_U, EDGE_V, INTENSITY, ONE_SIDED = 0, 3, 6, 9, 12
LIGHT_COLUMNS = 13


@njit(cache=True, fastmath=True)
def _local_axes(rotation, extent, normal):
    """Texture axes of a face: (u axis, v axis), u along the object's longest side within the face."""
    best, face = -1.0, 2
    for axis in range(3):
        lean = abs(rotation[0, axis] * normal[0] + rotation[1, axis] * normal[1] + rotation[2, axis] * normal[2])
        if lean > best + 1e-4:
            best, face = lean, axis
    a, b = (face + 1) % 3, (face + 2) % 3
    if extent[b] > extent[a]:
        a, b = b, a
    return a, b


@njit(cache=True, fastmath=True)
def surface(points, directions, prim, bary_u, bary_v, distance, pixel_angle, geometry, albedo, normal, facing, finish):
    """Fills albedo [N, 3], shading and geometric normals [N, 3], finish [N, 4] for the rays that hit.

    finish is (specular, shininess, mirror, emission); pixel_angle is the size of a pixel at one metre.
    """
    faces, owner, face_normal, vertex_normal, rotation, center, extent, smooth, material, materials = geometry
    for i in range(points.shape[0]):
        p = prim[i]
        if p < 0:
            continue
        o = owner[p]
        m = materials[material[o]]
        d, n = directions[i], face_normal[p]
        along = n[0] * d[0] + n[1] * d[1] + n[2] * d[2]
        side = -1.0 if along > 0 else 1.0
        for k in range(3):
            facing[i, k] = n[k] * side
            normal[i, k] = n[k] * side
        if smooth[o]:
            w = 1 - bary_u[i] - bary_v[i]
            x, y, z = 0.0, 0.0, 0.0
            for k in range(3):
                share = w if k == 0 else (bary_u[i] if k == 1 else bary_v[i])
                corner = vertex_normal[faces[p, k]]
                size = 1e-12 + math.sqrt(corner[0] ** 2 + corner[1] ** 2 + corner[2] ** 2)
                x, y, z = (
                    x + share * corner[0] / size,
                    y + share * corner[1] / size,
                    z + share * corner[2] / size,
                )
            size = side / (1e-9 + math.sqrt(x * x + y * y + z * z))
            normal[i, 0], normal[i, 1], normal[i, 2] = x * size, y * size, z * size
        a, b = _local_axes(rotation[o], extent[o], n)
        u, v = 0.0, 0.0
        shared = m[SHARED] > 0
        for k in range(3):
            q = points[i, k] - (0.0 if shared else center[o, k])
            u, v = u + rotation[o, k, a] * q, v + rotation[o, k, b] * q
        s, t = u / extent[o, a] + 0.5, v / extent[o, b] + 0.5
        if a == 2:  # pictures and spines read upright: t always runs up an upright face
            s, t = t, s
            if shared:
                u, v = v, u
        length = math.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
        footprint = distance[i] * pixel_angle / max(abs(along) / length, 0.2)
        seed = int(m[SEED])
        if not shared:
            seed, u, v = seed + o * 17, u + 0.37 * o, v + 0.61 * o
        f, g = pattern_value(m, u, v, s, t, footprint, seed)
        f, g = min(1.0, max(0.0, f)), min(1.0, max(0.0, g))
        for k in range(3):
            mixed = m[COLOR_A + k] * (1 - f) + m[COLOR_B + k] * f
            albedo[i, k] = mixed * (1 - g) + m[COLOR_C + k] * g
        finish[i, 0], finish[i, 1] = m[SPECULAR], m[SHININESS]
        finish[i, 2], finish[i, 3] = m[MIRROR] * (1 - 0.8 * g), m[EMISSION]


@njit(cache=True, fastmath=True)
def sky_rays(points, facing, prim, seed, reach, origins, directions, index):
    """Cosine-distributed occlusion rays of length `reach` from every hit; returns how many were written."""
    count = 0
    for i in range(points.shape[0]):
        if prim[i] < 0:
            continue
        z = 2 * hash01(i, seed, 1) - 1
        angle = 6.2831853 * hash01(i, seed, 2)
        ring = math.sqrt(max(0.0, 1 - z * z))
        x, y = ring * math.cos(angle) + facing[i, 0] * 1.002, ring * math.sin(angle) + facing[i, 1] * 1.002
        z += facing[i, 2] * 1.002
        size = reach / math.sqrt(x * x + y * y + z * z + 1e-9)
        directions[count, 0], directions[count, 1], directions[count, 2] = x * size, y * size, z * size
        for k in range(3):
            origins[count, k] = points[i, k] + facing[i, k] * 2e-3
        index[count] = i
        count += 1
    return count


@njit(cache=True, fastmath=True)
def light_rays(points, facing, prim, light, seed, origins, directions, index):
    """Rays from every hit that faces the light to a random point on it; returns how many were written."""
    count = 0
    for i in range(points.shape[0]):
        if prim[i] < 0:
            continue
        a, b = 2 * hash01(i, seed, 3) - 1, 2 * hash01(i, seed, 4) - 1
        toward = 0.0
        for k in range(3):
            origins[count, k] = points[i, k] + facing[i, k] * 2e-3
            goal = light[POSITION + k] + a * light[EDGE_U + k] + b * light[EDGE_V + k]
            directions[count, k] = goal - origins[count, k]
            toward += facing[i, k] * directions[count, k]
        if toward > 0:
            index[count] = i
            count += 1
    return count


@njit(cache=True, fastmath=True)
def add_light(count, directions, index, occluder, light, view, normal, finish, diffuse, glossy):
    """Adds a light's irradiance to `diffuse` and its highlight to `glossy`, where the ray got through."""
    u, v = light[EDGE_U:EDGE_V], light[EDGE_V:INTENSITY]
    nx, ny, nz = u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]
    size = math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    for j in range(count):
        if occluder[j] >= 0:
            continue
        i, d = index[j], directions[j]
        square = d[0] ** 2 + d[1] ** 2 + d[2] ** 2
        length = math.sqrt(square)
        lean = (normal[i, 0] * d[0] + normal[i, 1] * d[1] + normal[i, 2] * d[2]) / length
        if lean <= 0:
            continue
        power = lean / max(square, 0.12)
        if light[ONE_SIDED] > 0:
            power *= max(0.0, -(nx * d[0] + ny * d[1] + nz * d[2]) / (size * length))
        hx, hy, hz = d[0] / length - view[i, 0], d[1] / length - view[i, 1], d[2] / length - view[i, 2]
        half = math.sqrt(hx * hx + hy * hy + hz * hz) + 1e-9
        shine = max(0.0, (normal[i, 0] * hx + normal[i, 1] * hy + normal[i, 2] * hz) / half) ** finish[i, 1]
        for k in range(3):
            diffuse[i, k] += light[INTENSITY + k] * power
            glossy[i, k] += light[INTENSITY + k] * power * shine * finish[i, 0] * (finish[i, 1] + 8) * 0.01


@njit(cache=True, fastmath=True)
def add_ambient(open_sky, normal, prim, from_above, from_below, diffuse):
    """Adds light that comes from everywhere: one color from above, one from below, less in corners.

    The occluded part keeps a third of it, for the light that neighbouring surfaces hand on.
    """
    for i in range(normal.shape[0]):
        if prim[i] < 0:
            continue
        up = 0.5 + 0.5 * normal[i, 2]
        reach = 0.33 + 0.67 * open_sky[i]
        for k in range(3):
            diffuse[i, k] += reach * (from_above[k] * up + from_below[k] * (1 - up))


@njit(cache=True, fastmath=True)
def smooth_light(light, out, normal, distance, height, width, step):
    """One a-trous pass over `light` [N, 3]: averages neighbours at `step` that lie on the same surface."""
    for y in range(height):
        for x in range(width):
            i = y * width + x
            a, b, c, weight = 0.0, 0.0, 0.0, 0.0
            for yy in range(y - step, y + step + 1, step):
                for xx in range(x - step, x + step + 1, step):
                    if yy < 0 or yy >= height or xx < 0 or xx >= width:
                        continue
                    j = yy * width + xx
                    same = normal[i, 0] * normal[j, 0] + normal[i, 1] * normal[j, 1] + normal[i, 2] * normal[j, 2]
                    near = abs(distance[j] - distance[i]) <= 0.03 * distance[i] * step
                    if j == i or (same > 0.9 and near):
                        a, b, c, weight = a + light[j, 0], b + light[j, 1], c + light[j, 2], weight + 1
            out[i, 0], out[i, 1], out[i, 2] = a / weight, b / weight, c / weight


@njit(cache=True, fastmath=True)
def mirror_rays(points, view, normal, prim, finish, roughness, seed, origins, directions, index, strength):
    """Mirror rays of glossy hits with their Fresnel strength (Schlick); returns how many were written."""
    count = 0
    for i in range(points.shape[0]):
        if prim[i] < 0 or finish[i, 2] <= 0:
            continue
        lean = view[i, 0] * normal[i, 0] + view[i, 1] * normal[i, 1] + view[i, 2] * normal[i, 2]
        fresnel = finish[i, 2] + (min(1.0, finish[i, 2] * 8) - finish[i, 2]) * (1 - min(1.0, abs(lean))) ** 5
        if fresnel < 0.015:
            continue
        for k in range(3):
            jitter = roughness * (hash01(i, seed, 5 + k) - 0.5)
            directions[count, k] = view[i, k] - 2 * lean * normal[i, k] + jitter
            origins[count, k] = points[i, k] + normal[i, k] * 2e-3
        strength[count], index[count] = fresnel, i
        count += 1
    return count


@njit(cache=True, fastmath=True)
def sky_color(direction, zenith, horizon, clouds, sun, seed, out):
    """Sky color along unit directions [N, 3]: gradient, clouds (0 none, 1 overcast), glow at the sun."""
    for i in range(direction.shape[0]):
        x, y, z = direction[i]
        up = max(0.0, z)
        haze = (1 - up) ** 4
        cover = 0.0
        if clouds > 0:
            lift = 1.0 / (up + 0.12)
            cover = fractal(x * lift * 1.3 + 50, y * lift * 1.3 + 50, 0.02 * lift, 5, seed)
            cover = min(1.0, max(0.0, (cover - 0.75 + 0.6 * clouds) * 4)) * (1 - 0.5 * haze)
        glow = max(0.0, x * sun[0] + y * sun[1] + z * sun[2]) ** 60
        for k in range(3):
            clear = zenith[k] * (1 - haze) + horizon[k] * haze
            out[i, k] = clear * (1 - cover) + (0.35 + 0.65 * horizon[k]) * cover + 0.8 * glow
